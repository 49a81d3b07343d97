//! Control writes, workers read: workers see a whole publish, and a failed one changes nothing.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use aigw_core::snapshot::delta::Change;
use aigw_core::snapshot::{Credential, Digest, KeysBuilder, NewConsumer, Uuid};
use aigw_io::snapshot::{PublishError, SnapshotReader, SnapshotWriter};
use sha2::{Digest as _, Sha256};

const STORE: [u64; 2] = [1, 2];
const POLICY: &str = r#"{"services":[],"routes":[],"key_auth":[],"rate_limiting":[],"size_limiting":[],"acl":[],
    "default_tier":null,"tiers":[],"models":[],"columns":[]}"#;

fn data() -> (tempfile::TempDir, SnapshotWriter) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("cells")).unwrap();
    let writer = SnapshotWriter::open(dir.path(), STORE).unwrap();
    (dir, writer)
}

fn id(n: u32) -> Uuid {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    Uuid::from_bytes(bytes)
}

fn digest(n: u32) -> Digest {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b9).to_le_bytes());
    Digest::new(bytes)
}

fn consumer(n: u32) -> NewConsumer<'static> {
    NewConsumer { n, id: id(n), username: Some("someone"), custom_id: None, refs: &[], tier: 0, groups: &[] }
}

fn credential(n: u32) -> Credential {
    Credential { n, id: id(n), consumer: n, expires_at: 0 }
}

fn base(numbers: std::ops::RangeInclusive<u32>) -> KeysBuilder {
    let mut builder = KeysBuilder::new();
    for n in numbers {
        builder.consumer(&consumer(n)).unwrap();
        builder.credential(credential(n), digest(n));
    }
    builder
}

fn add(writer: &mut SnapshotWriter, n: u32) {
    writer.append(&[Change::Consumer(consumer(n)), Change::Credential(credential(n), digest(n))]).unwrap();
}

fn knows(reader: &SnapshotReader, n: u32) -> bool {
    reader.current().keys.find(&digest(n)).is_some_and(|(_, c)| c.n == n)
}

/// The policy with a name of its own, so that its hash differs.
fn policy(name: &str) -> Vec<u8> {
    let service = format!(
        r#""services":[{{"n":1,"id":"{}","name":"{name}","protocol":"http","host":"h","port":1,"path":null,"retries":0,
        "connect_timeout_ms":1,"write_timeout_ms":1,"read_timeout_ms":1,"tls_verify":null}}]"#,
        id(1)
    );
    POLICY.replace(r#""services":[]"#, &service).into_bytes()
}

fn name(reader: &SnapshotReader) -> Option<String> {
    reader.current().policy.services.first().and_then(|s| s.name.as_deref().map(str::to_owned))
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir.join("snapshot"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_change_is_in_force_when_publish_returns_and_not_before() {
    let (dir, mut writer) = data();
    let reader = SnapshotReader::open(dir.path()).unwrap();
    assert_eq!((reader.current().generation, reader.store()), (0, STORE));
    assert!(matches!(writer.publish(None), Err(PublishError::NoPolicy)));

    writer.write_base(base(1..=100)).unwrap();
    assert!(!knows(&reader, 1));
    assert_eq!(writer.publish(Some(POLICY.as_bytes())).unwrap(), 1);
    assert!(knows(&reader, 1) && knows(&reader, 100) && !knows(&reader, 101));

    add(&mut writer, 101);
    assert!(!knows(&reader, 101));
    assert_eq!(writer.publish(None).unwrap(), 2);
    assert!(knows(&reader, 101));

    writer.append(&[Change::CredentialGone(5), Change::ConsumerGone(6)]).unwrap();
    assert_eq!(writer.publish(Some(&policy("a"))).unwrap(), 3);
    assert!(!knows(&reader, 5) && !knows(&reader, 6) && knows(&reader, 7));
    assert_eq!(name(&reader).as_deref(), Some("a"));
    assert_eq!(writer.delta_records(), 4);
    assert_eq!(reader.error(), None);
}

#[test]
fn reader_loads_only_changed_files() {
    let (dir, mut writer) = data();
    let reader = SnapshotReader::open(dir.path()).unwrap();
    writer.write_base(base(1..=10)).unwrap();
    writer.publish(Some(&policy("a"))).unwrap();
    let before = reader.current();
    add(&mut writer, 11);
    writer.publish(None).unwrap();
    let after = reader.current();
    assert!(std::sync::Arc::ptr_eq(&before.policy, &after.policy));
    assert!(before.keys.find(&digest(11)).is_none(), "a snapshot in hand does not change");
    // The base is mapped: with its file gone, a longer delta still loads.
    fs::remove_file(dir.path().join("snapshot/keys-base-1")).unwrap();
    add(&mut writer, 12);
    writer.publish(None).unwrap();
    assert!(knows(&reader, 12) && knows(&reader, 1));
}

#[test]
fn old_files_go_after_two_generations() {
    let (dir, mut writer) = data();
    writer.publish(Some(&policy("a"))).unwrap();
    assert_eq!(files(dir.path()), ["keys-base-1", "keys-delta-1", "policy-1"]);
    writer.write_base(base(1..=3)).unwrap();
    writer.publish(Some(&policy("b"))).unwrap();
    assert_eq!(
        files(dir.path()),
        ["keys-base-1", "keys-base-2", "keys-delta-1", "keys-delta-2", "policy-1", "policy-2"]
    );
    add(&mut writer, 4);
    writer.publish(None).unwrap();
    assert_eq!(files(dir.path()), ["keys-base-2", "keys-delta-2", "policy-2"]);
}

#[test]
fn a_restarted_control_goes_on_and_forgets_unpublished_changes() {
    let (dir, mut writer) = data();
    writer.write_base(base(1..=3)).unwrap();
    writer.publish(Some(&policy("a"))).unwrap();
    add(&mut writer, 4);
    writer.publish(None).unwrap();
    add(&mut writer, 5);
    drop(writer);

    let reader = SnapshotReader::open(dir.path()).unwrap();
    let mut writer = SnapshotWriter::open(dir.path(), STORE).unwrap();
    assert_eq!((writer.page().generation(), writer.delta_records()), (2, 2));
    add(&mut writer, 6);
    assert_eq!(writer.publish(None).unwrap(), 3);
    assert!(knows(&reader, 4) && !knows(&reader, 5) && knows(&reader, 6));
}

#[test]
fn a_policy_no_worker_could_load_is_never_written() {
    let (dir, mut writer) = data();
    writer.publish(Some(&policy("a"))).unwrap();
    let before = files(dir.path());
    for bad in [&b"{}"[..], b"", b"{\"services\":1}", &policy("x")[1..]] {
        assert!(matches!(writer.publish(Some(bad)), Err(PublishError::Snapshot(_))));
    }
    assert_eq!((files(dir.path()), writer.page().generation()), (before, 1));
    assert_eq!(writer.publish(Some(&policy("b"))).unwrap(), 2);
}

#[test]
fn publish_puts_exactly_the_staged_files_in_force() {
    let (dir, mut writer) = data();
    let reader = SnapshotReader::open(dir.path()).unwrap();
    writer.publish(Some(&policy("a"))).unwrap();
    assert!(matches!(writer.stage(b"{}"), Err(PublishError::Snapshot(_))));
    writer.stage(&policy("b")).unwrap();
    assert_eq!(name(&reader).as_deref(), Some("a"));
    // The change behind it was not stored: another one comes, with a policy of its own, or without.
    writer.publish(Some(&policy("c"))).unwrap();
    assert_eq!(name(&reader).as_deref(), Some("c"));
    writer.stage(&policy("d")).unwrap();
    writer.publish(None).unwrap();
    assert_eq!(name(&reader).as_deref(), Some("c"));
    writer.stage(&policy("e")).unwrap();
    let path = dir.path().join("snapshot/policy-4");
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    writer.publish(Some(&policy("e"))).unwrap();
    assert_eq!((name(&reader).as_deref(), fs::metadata(&path).unwrap().modified().unwrap()), (Some("e"), written));
    assert_eq!(reader.error(), None);
}

#[test]
fn a_withdrawn_stage_is_never_in_force() {
    let (dir, mut writer) = data();
    let reader = SnapshotReader::open(dir.path()).unwrap();
    writer.write_base(base(1..=3)).unwrap();
    writer.publish(Some(&policy("a"))).unwrap();
    add(&mut writer, 4);
    writer.publish(None).unwrap();
    add(&mut writer, 5);
    writer.take_back();
    writer.take_back();
    assert_eq!(writer.delta_records(), 2);
    add(&mut writer, 6);
    writer.publish(None).unwrap();
    writer.take_back();
    assert!(knows(&reader, 4) && !knows(&reader, 5) && knows(&reader, 6));
    assert_eq!(writer.delta_records(), 4);
}

#[test]
fn a_load_that_fails_keeps_the_old_snapshot_and_says_why() {
    let (dir, mut writer) = data();
    let reader = SnapshotReader::open(dir.path()).unwrap();
    writer.publish(Some(&policy("a"))).unwrap();
    assert_eq!(name(&reader).as_deref(), Some("a"));
    writer.publish(Some(&policy("b"))).unwrap();
    let path = dir.path().join("snapshot/policy-2");
    let whole = fs::read(&path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"!", whole.len() as u64 - 2).unwrap();
    assert_eq!(name(&reader).as_deref(), Some("a"));
    assert!(reader.error().unwrap().contains("hash"), "{:?}", reader.error());
    // The next generation heals it.
    writer.publish(Some(&policy("c"))).unwrap();
    assert_eq!(name(&reader).as_deref(), Some("c"));
    assert_eq!(reader.error(), None);
}

#[test]
fn published_keys_that_are_gone_are_said_and_a_new_base_heals() {
    let (dir, mut writer) = data();
    writer.write_base(base(1..=3)).unwrap();
    writer.publish(Some(&policy("a"))).unwrap();
    drop(writer);
    fs::remove_file(dir.path().join("snapshot/keys-delta-1")).unwrap();
    let mut writer = SnapshotWriter::open(dir.path(), STORE).unwrap();
    let error = writer.append(&[Change::CredentialGone(1)]).unwrap_err().to_string();
    assert!(error.contains("write a new base"), "{error}");
    assert_eq!(writer.delta_records(), usize::MAX, "which is what has one written");
    writer.write_base(base(2..=4)).unwrap();
    writer.publish(None).unwrap();
    let reader = SnapshotReader::open(dir.path()).unwrap();
    assert!(!knows(&reader, 1) && knows(&reader, 4));
}

#[test]
fn a_base_of_another_version_is_said_and_the_one_written_at_start_heals() {
    let (dir, mut writer) = data();
    writer.write_base(base(1..=3)).unwrap();
    writer.publish(Some(&policy("a"))).unwrap();
    drop(writer);
    // What an older program left: its version in the header, under a header hash that is right.
    let path = dir.path().join("snapshot/keys-base-1");
    let mut old = fs::read(&path).unwrap();
    old[8..16].copy_from_slice(&1_u64.to_le_bytes());
    let hash = Sha256::digest(&old[..56]);
    old[56..88].copy_from_slice(&hash);
    fs::write(&path, old).unwrap();
    let reader = SnapshotReader::open(dir.path()).unwrap();
    assert!(!knows(&reader, 1));
    assert!(reader.error().unwrap().contains("another version"), "{:?}", reader.error());
    // The control process writes a base whenever it starts.
    let mut writer = SnapshotWriter::open(dir.path(), STORE).unwrap();
    writer.write_base(base(1..=4)).unwrap();
    writer.publish(Some(&policy("b"))).unwrap();
    assert!(knows(&reader, 1) && knows(&reader, 4));
    assert_eq!(reader.error(), None);
}

#[test]
fn readers_next_to_a_busy_writer_never_see_half_a_generation() {
    let (dir, mut writer) = data();
    writer.publish(Some(&policy("0"))).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let reader = SnapshotReader::open(dir.path()).unwrap();
                let mut last = 0;
                while !done.load(Ordering::Acquire) {
                    let snapshot = reader.current();
                    assert!(snapshot.generation >= last);
                    last = snapshot.generation;
                    if last == 0 {
                        continue;
                    }
                    // Policy and newest key of one generation carry the same number.
                    let name: u32 = snapshot.policy.services[0].name.as_deref().unwrap().parse().unwrap();
                    assert!(name == 0 || snapshot.keys.consumer(name).is_some(), "generation {last}");
                    assert!(snapshot.keys.consumer(name + 1).is_none(), "generation {last}");
                }
                assert_eq!(reader.error(), None);
            });
        }
        for n in 1..=300 {
            if n % 50 == 0 {
                writer.write_base(base(1..=n)).unwrap();
            } else {
                add(&mut writer, n);
            }
            writer.publish(Some(&policy(&n.to_string()))).unwrap();
        }
        done.store(true, Ordering::Release);
    });
}
