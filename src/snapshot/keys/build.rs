//! Builds a key base.
//!
//! In: every consumer and credential once, in any order. Out: the bytes that [`super::Keys::open`] reads.
//! Invariant: numbers and digests are unique and each credential has its consumer; otherwise the build fails. `aigw-io`
//! writes the file.

use std::collections::HashMap;
use std::ops::Range;

use super::base::{CREDENTIAL, HEADER, Header, INDEX, SLOT, fingerprint, home, slots_for};
use super::consumer::NewConsumer;
use super::credential::{Credential, Digest, MAX_CREDENTIAL};
use super::{class, record};
use crate::snapshot::error::SnapshotError;

/// Collects a base.
#[derive(Debug, Default)]
pub struct KeysBuilder {
    /// The bytes of all classes so far, and the position of each class in them.
    classes: Vec<u8>,
    class_positions: HashMap<Box<[u8]>, u32>,
    records: Vec<u8>,
    /// (row number, its record in `records`)
    index: Vec<(u32, Range<usize>)>,
    credentials: Vec<(Credential, Digest)>,
}

impl KeysBuilder {
    /// An empty base.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a consumer.
    pub fn consumer(&mut self, consumer: &NewConsumer<'_>) -> Result<(), SnapshotError> {
        let class = self.class(consumer)?;
        let at = self.records.len();
        record::encode(consumer, Some(class), &mut self.records)?;
        self.records.resize(self.records.len().next_multiple_of(8), 0);
        self.index.push((consumer.n, at..self.records.len()));
        Ok(())
    }

    /// The position of a consumer's class; a new class is appended.
    fn class(&mut self, consumer: &NewConsumer<'_>) -> Result<u32, SnapshotError> {
        let mut bytes = Vec::new();
        class::encode(consumer, &mut bytes)?;
        if let Some(known) = self.class_positions.get(&bytes[..]) {
            return Ok(*known);
        }
        let new = position(self.classes.len())?;
        self.classes.extend_from_slice(&bytes);
        self.classes.resize(self.classes.len().next_multiple_of(8), 0);
        self.class_positions.insert(bytes.into(), new);
        Ok(new)
    }

    /// Adds a credential.
    pub fn credential(&mut self, credential: Credential, digest: Digest) {
        self.credentials.push((credential, digest));
    }

    /// The bytes of base `number`.
    pub fn finish(mut self, number: u64) -> Result<Vec<u8>, SnapshotError> {
        self.index.sort_unstable_by_key(|entry| entry.0);
        let twice = |kind, n| SnapshotError::Record { kind, n, why: "appears twice" };
        if let Some(pair) = self.index.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(twice("consumer", pair[0].0));
        }
        self.credentials.sort_unstable_by_key(|(credential, _)| (credential.consumer, credential.n));
        let slots = slots_for(self.credentials.len());
        let bodies_len = self.classes.len() + self.credentials.len() * CREDENTIAL + self.records.len();
        let header = Header {
            number,
            consumers: self.index.len() as u64,
            credentials: self.credentials.len() as u64,
            slots: slots as u64,
            bodies_len: bodies_len as u64,
        };
        let mut out = Vec::with_capacity(HEADER + bodies_len + self.index.len() * INDEX + slots * SLOT);
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(&self.classes);
        let (positions, records) = self.bodies(&mut out)?;
        for ((n, _), record) in self.index.iter().zip(records) {
            out.extend_from_slice(&n.to_le_bytes());
            out.extend_from_slice(&record.to_le_bytes());
        }
        for (print, entry) in self.slots(slots, &positions).map_err(|n| twice("credential", n))? {
            out.extend_from_slice(&print.to_le_bytes());
            out.extend_from_slice(&entry.to_le_bytes());
        }
        Ok(out)
    }

    /// Writes each consumer's record behind its credentials. Out: the positions of the credentials, and of the records.
    fn bodies(&self, out: &mut Vec<u8>) -> Result<(Vec<u32>, Vec<u32>), SnapshotError> {
        let (mut positions, mut records) = (Vec::new(), Vec::new());
        let mut rest = &self.credentials[..];
        for (n, bytes) in &self.index {
            let (own, after) = rest.split_at(rest.partition_point(|(credential, _)| credential.consumer <= *n));
            rest = after;
            let record = position(out.len() - HEADER + own.len() * CREDENTIAL)?;
            for (credential, digest) in own {
                if credential.consumer != *n {
                    return Err(without_consumer(credential));
                }
                if credential.n > MAX_CREDENTIAL {
                    return Err(SnapshotError::Record { kind: "credential", n: credential.n, why: "n is too high" });
                }
                positions.push(position(out.len() - HEADER)?);
                out.extend_from_slice(digest.as_bytes());
                out.extend_from_slice(credential.id.as_bytes());
                out.extend_from_slice(&credential.n.to_le_bytes());
                out.extend_from_slice(&record.to_le_bytes());
                out.extend_from_slice(&credential.expires_at.to_le_bytes());
            }
            out.extend_from_slice(&self.records[bytes.clone()]);
            records.push(record);
        }
        rest.first().map_or(Ok((positions, records)), |(credential, _)| Err(without_consumer(credential)))
    }

    /// The probe table; the error is a credential whose number or digest stands twice.
    fn slots(&self, count: usize, positions: &[u32]) -> Result<Vec<(u32, u32)>, u32> {
        let mut numbers: Vec<u32> = self.credentials.iter().map(|(c, _)| c.n).collect();
        numbers.sort_unstable();
        if let Some(pair) = numbers.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(pair[0]);
        }
        // Slots name credentials by index while the table is built, and by position at the end.
        let mut table = vec![(0, 0); count];
        for (entry, (credential, digest)) in (1_u32..).zip(&self.credentials) {
            let mut slot = home(digest, count);
            let print = fingerprint(digest);
            while table[slot].1 != 0 {
                let other = &self.credentials[table[slot].1 as usize - 1].1;
                if table[slot].0 == print && other == digest {
                    return Err(credential.n);
                }
                slot = if slot + 1 == count { 0 } else { slot + 1 };
            }
            table[slot] = (print, entry);
        }
        for (_, entry) in table.iter_mut().filter(|(_, entry)| *entry != 0) {
            *entry = positions[*entry as usize - 1] + 1;
        }
        Ok(table)
    }
}

/// The position of an offset in bytes behind the header.
fn position(at: usize) -> Result<u32, SnapshotError> {
    let position = u32::try_from(at / 8).ok().filter(|position| *position <= MAX_CREDENTIAL);
    position.ok_or(SnapshotError::Base("more than 16 GiB of consumers"))
}

fn without_consumer(credential: &Credential) -> SnapshotError {
    SnapshotError::Record { kind: "credential", n: credential.n, why: "its consumer is not in the base" }
}
