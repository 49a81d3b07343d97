//! The delta: changes on top of one base, appended and never rewritten.
//!
//! ```text
//! header: "AIGWKEYD", version 8, base number 8        record: payload length 4, kind 1, payload
//! ```
//! In: changes. Out: bytes, and changes read from bytes. Invariant: a reader takes only whole records, up to the published
//! length; other bytes are an error with their offset, never skipped.

use super::bytes::{u32_at, u64_at};
use super::consumer::NewConsumer;
use super::credential::{Credential, Digest, MAX_CREDENTIAL};
use super::record::{self, Record};
use crate::snapshot::error::SnapshotError;
use crate::snapshot::uuid::Uuid;

const MAGIC: &[u8; 8] = b"AIGWKEYD";
const VERSION: u64 = 3;
/// Bytes before the first record.
pub const HEADER: usize = 24;

/// One change, as written.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// Add or replace a consumer.
    Consumer(NewConsumer<'a>),
    /// Add or replace a credential.
    Credential(Credential, Digest),
    /// The consumer is deleted; its credentials stop working.
    ConsumerGone(u32),
    /// The credential is deleted.
    CredentialGone(u32),
}

/// One change, as read: a consumer stays in its bytes.
pub(super) enum Read<'a> {
    Consumer(u32, &'a [u8]),
    Credential(Credential, Digest),
    ConsumerGone(u32),
    CredentialGone(u32),
}

/// The first bytes of a delta on base `number`.
pub fn header(number: u64) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    out[..8].copy_from_slice(MAGIC);
    out[8..16].copy_from_slice(&VERSION.to_le_bytes());
    out[16..].copy_from_slice(&number.to_le_bytes());
    out
}

/// Checks that a delta belongs to base `number`.
pub fn check_header(file: &[u8], number: u64) -> Result<(), SnapshotError> {
    match file.get(..HEADER) {
        Some(found) if found == header(number) => Ok(()),
        Some(_) => Err(SnapshotError::Delta { at: 0, why: "the header is not of this base and version" }),
        None => Err(SnapshotError::Delta { at: 0, why: "shorter than its header" }),
    }
}

/// The number of records in a delta on base `number`; an error when a record is cut off or damaged.
pub fn count(file: &[u8], number: u64) -> Result<usize, SnapshotError> {
    check_header(file, number)?;
    records(&file[HEADER..], HEADER).try_fold(0, |count, record| record.map(|_| count + 1))
}

/// Appends one record.
pub fn encode(change: &Change<'_>, out: &mut Vec<u8>) -> Result<(), SnapshotError> {
    let start = out.len();
    out.extend_from_slice(&[0; 5]);
    let kind = match change {
        Change::Consumer(consumer) => {
            record::encode(consumer, None, out).inspect_err(|_| out.truncate(start))?;
            1
        }
        Change::Credential(credential, digest) => {
            let Credential { n, id, consumer, expires_at } = credential;
            if *n > MAX_CREDENTIAL {
                out.truncate(start);
                return Err(SnapshotError::Record { kind: "credential", n: *n, why: "n is too high" });
            }
            out.extend_from_slice(digest.as_bytes());
            out.extend_from_slice(id.as_bytes());
            out.extend_from_slice(&n.to_le_bytes());
            out.extend_from_slice(&consumer.to_le_bytes());
            out.extend_from_slice(&expires_at.to_le_bytes());
            2
        }
        Change::ConsumerGone(n) => {
            out.extend_from_slice(&n.to_le_bytes());
            3
        }
        Change::CredentialGone(n) => {
            out.extend_from_slice(&n.to_le_bytes());
            4
        }
    };
    // A consumer record is at most two names and 65,535 references: far below 4 GiB.
    let len = u32::try_from(out.len() - start - 5).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4] = kind;
    Ok(())
}

/// The records in `bytes`, which begin at file offset `at` on a record boundary.
pub(super) fn records(mut bytes: &[u8], mut at: usize) -> impl Iterator<Item = Result<Read<'_>, SnapshotError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let record = (|| {
            let (head, rest) = bytes.split_at_checked(5)?;
            let (payload, after) = rest.split_at_checked(u32_at(head, 0)? as usize)?;
            Some((head[4], payload, after))
        })();
        let Some((kind, payload, after)) = record else {
            bytes = &[];
            return Some(Err(SnapshotError::Delta { at, why: "a record is cut off" }));
        };
        let Some(read) = read(kind, payload) else {
            bytes = &[];
            return Some(Err(SnapshotError::Delta { at, why: "a record is damaged" }));
        };
        at += payload.len() + 5;
        bytes = after;
        Some(Ok(read))
    })
}

fn read(kind: u8, payload: &[u8]) -> Option<Read<'_>> {
    match (kind, payload.len()) {
        (1, _) => {
            let record = Record::read(payload)?;
            record.own_class()?;
            Some(Read::Consumer(record.n, payload))
        }
        (2, 64) if u32_at(payload, 48)? <= MAX_CREDENTIAL => Some(Read::Credential(
            Credential {
                id: Uuid::from_bytes(*payload[32..].first_chunk()?),
                n: u32_at(payload, 48)?,
                consumer: u32_at(payload, 52)?,
                expires_at: u64_at(payload, 56)?,
            },
            Digest::from_slice(&payload[..32])?,
        )),
        (3, 4) => Some(Read::ConsumerGone(u32_at(payload, 0)?)),
        (4, 4) => Some(Read::CredentialGone(u32_at(payload, 0)?)),
        _ => None,
    }
}
