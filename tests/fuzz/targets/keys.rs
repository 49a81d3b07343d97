//! Key files: no bytes of a base or a delta make a lookup panic, and a damaged file opens no key that it did not hold.
//!
//! Input: one byte that says how the rest is used: as a base, as a base whose header is made right, or as the records of a delta
//! on a base of three consumers.

use std::sync::Arc;

use aigw_core::snapshot::delta;
use aigw_core::snapshot::{Credential, Digest, Keys, KeysBuilder, NewConsumer, Uuid};
use sha2::Digest as _;

/// A base of three consumers with a key each. The digest of key `n` is 32 times the byte `n`.
fn small() -> Vec<u8> {
    let mut builder = KeysBuilder::new();
    for n in 1..=3_u8 {
        let id = Uuid::from_bytes([n; 16]);
        let groups: &[&str] = &["gold"];
        let name = Some("name");
        let number = u32::from(n);
        let consumer = NewConsumer { n: number, id, username: name, custom_id: None, refs: &[], tier: 0, groups };
        let _ = builder.consumer(&consumer);
        let credential = Credential { n: number, id, consumer: number, expires_at: 0 };
        builder.credential(credential, Digest::new([n; 32]));
    }
    builder.finish(1).unwrap_or_default()
}

/// Looks up more keys and consumers than there are, and reads every record found.
fn look(keys: &Keys) {
    for n in 0..8_u8 {
        if let Some((_, consumer)) = keys.find(&Digest::new([n; 32])) {
            let _ = keys.names(consumer.n);
        }
        if let Some(consumer) = keys.consumer(u32::from(n)) {
            let _ = (consumer.refs.iter().count(), consumer.groups.iter().count(), keys.names(consumer.n));
        }
    }
}

/// The base with the magic, version and number of a good one, and the hash that such a header needs.
fn with_header(mut base: Vec<u8>) -> Vec<u8> {
    let good = small();
    if let (Some(start), Some(head)) = (base.get_mut(..16), good.get(..16)) {
        start.copy_from_slice(head);
    }
    if let Some(header) = base.get(..56) {
        let hash = sha2::Sha256::digest(header);
        if let Some(place) = base.get_mut(56..88) {
            place.copy_from_slice(&hash);
        }
    }
    base
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    match first % 3 {
        0 | 1 => {
            let base = if first.is_multiple_of(3) { rest.to_vec() } else { with_header(rest.to_vec()) };
            if let Ok(keys) = Keys::open(Arc::new(base)) {
                look(&keys);
            }
        }
        _ => {
            let Ok(mut keys) = Keys::open(Arc::new(small())) else { panic!("the small base does not open") };
            let file = [&delta::header(1)[..], rest].concat();
            let counted = delta::count(&file, 1);
            let applied = keys.apply(&file);
            look(&keys);
            match (counted, applied) {
                (Ok(_), Ok(())) => assert_eq!(keys.applied(), file.len(), "bytes were left"),
                (Err(_), Err(_)) => {}
                (counted, applied) => panic!("count and apply differ: {counted:?}, {applied:?}"),
            }
        }
    }
}
