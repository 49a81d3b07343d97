//! Building a key base.
//!
//! In: every consumer and credential once, in any order. Out: the bytes that [`super::Keys::open`] reads.
//! Invariant: numbers and digests are unique and each credential's consumer is there, or nothing is built.
//! A pure function of its input: the file is written by `aigw-io`.

use super::SnapshotError;
use super::keys::{Credential, Digest};
use super::layout::{CREDENTIAL, HEADER, Header, INDEX, SLOT, fingerprint, home, slots_for};
use super::record::{self, NewConsumer};

/// Collects a base.
#[derive(Debug, Default)]
pub struct KeysBuilder {
    records: Vec<u8>,
    /// (n, record / 8)
    index: Vec<(u32, u32)>,
    credentials: Vec<(Credential, Digest)>,
}

impl KeysBuilder {
    /// An empty base.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a consumer.
    pub fn consumer(&mut self, consumer: &NewConsumer<'_>) -> Result<(), SnapshotError> {
        let at =
            u32::try_from(self.records.len() / 8).map_err(|_| SnapshotError::Base("more than 32 GiB of consumers"))?;
        record::encode(consumer, &mut self.records)?;
        self.records.resize(self.records.len().next_multiple_of(8), 0);
        self.index.push((consumer.n, at));
        Ok(())
    }

    /// Adds a credential.
    pub fn credential(&mut self, credential: Credential, digest: Digest) {
        self.credentials.push((credential, digest));
    }

    /// The bytes of base `number`.
    pub fn finish(mut self, number: u64) -> Result<Vec<u8>, SnapshotError> {
        self.index.sort_unstable();
        let twice = |kind, n| SnapshotError::Record { kind, n, why: "appears twice" };
        if let Some(pair) = self.index.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(twice("consumer", pair[0].0));
        }
        let slots = slots_for(self.credentials.len());
        let header = Header {
            number,
            consumers: self.index.len() as u64,
            credentials: self.credentials.len() as u64,
            slots: slots as u64,
            records_len: self.records.len() as u64,
        };
        let length =
            HEADER + self.credentials.len() * CREDENTIAL + self.records.len() + self.index.len() * INDEX + slots * SLOT;
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(&header.encode());
        for (credential, digest) in &self.credentials {
            let place = self.index.binary_search_by_key(&credential.consumer, |entry| entry.0).map_err(|_| {
                SnapshotError::Record { kind: "credential", n: credential.n, why: "its consumer is not in the base" }
            })?;
            out.extend_from_slice(digest.as_bytes());
            out.extend_from_slice(credential.id.as_bytes());
            out.extend_from_slice(&credential.n.to_le_bytes());
            out.extend_from_slice(&self.index[place].1.to_le_bytes());
            out.extend_from_slice(&credential.expires_at.to_le_bytes());
        }
        out.append(&mut self.records);
        for (n, record) in &self.index {
            out.extend_from_slice(&n.to_le_bytes());
            out.extend_from_slice(&record.to_le_bytes());
        }
        for (print, entry) in self.slots(slots).map_err(|n| twice("credential", n))? {
            out.extend_from_slice(&print.to_le_bytes());
            out.extend_from_slice(&entry.to_le_bytes());
        }
        Ok(out)
    }

    /// The probe table; the error is a credential whose number or digest is there already.
    fn slots(&self, count: usize) -> Result<Vec<(u32, u32)>, u32> {
        let mut numbers: Vec<u32> = self.credentials.iter().map(|(c, _)| c.n).collect();
        numbers.sort_unstable();
        if let Some(pair) = numbers.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(pair[0]);
        }
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
        Ok(table)
    }
}
