//! A model of the store and of the compactor, which are Python in the product (`python/aigw/ledger/compactor.py`, `batch.py`): the same
//! steps in the same order.
//!
//! A round lists the segments, reads records from each one's cursor on, writes entries, sums and cursors in one transaction, and then removes
//! segments that are done. Each step is one of the simulation's, so a process may die between any two; a transaction that was not
//! committed leaves nothing. Reading is the product's [`Segments`].

use std::collections::{BTreeMap, HashSet};

use aigw_core::entry::Entry;
use aigw_core::entry::record::{RecordKind, SEGMENT_RECORDS};
use aigw_core::entry::recover::Tail;
use aigw_core::limits::Usage;
use aigw_io::ledger::{SegmentName, Segments};

use crate::plan::Planted;

/// Segments of a living owner that are kept, as `src/ext/ledger.rs` does.
const KEPT: usize = 3;

/// The id of an entry.
pub type Id = (SegmentName, u32);

/// The place in a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    pub next: u32,
    pub done: bool,
    pub damaged: bool,
}

/// The committed tables.
#[derive(Debug, Default)]
pub struct Store {
    pub cursors: BTreeMap<SegmentName, Cursor>,
    pub entries: Vec<(Id, Entry)>,
    /// By minute and consumer: requests that count, tokens, nano-dollars.
    pub rollups: BTreeMap<(u64, u32), [u64; 3]>,
    ids: HashSet<Id>,
}

/// A segment as a round has listed it.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    name: SegmentName,
    /// Its records, where no more will come.
    end: Option<u32>,
}

/// The rows of a transaction on their way.
#[derive(Debug, Default)]
pub struct Batch {
    entries: Vec<(Id, Entry)>,
    cursors: BTreeMap<SegmentName, Cursor>,
}

impl Store {
    /// Writes a batch, whole. Planted: the cursors come in another transaction, [`Self::commit_cursors`].
    pub fn commit(&mut self, batch: &Batch, planted: Option<Planted>) -> Result<(), String> {
        for (id, entry) in &batch.entries {
            if !self.ids.insert(*id) {
                return Err(format!("entry {id:?} is in the store twice"));
            }
            self.entries.push((*id, *entry));
            let Usage { requests, amounts } = entry.used();
            let sums = self.rollups.entry((minute(entry), entry.consumer)).or_default();
            for (sum, more) in sums.iter_mut().zip([requests, amounts.tokens(), amounts.spend]) {
                *sum += more;
            }
        }
        if planted != Some(Planted::CursorApart) {
            self.commit_cursors(batch);
        }
        Ok(())
    }

    pub fn commit_cursors(&mut self, batch: &Batch) {
        self.cursors.extend(&batch.cursors);
    }

    pub fn has(&self, id: Id) -> bool {
        self.ids.contains(&id)
    }
}

/// The minute of an entry's sums.
pub fn minute(entry: &Entry) -> u64 {
    entry.admitted_at.0 / 60_000_000_000
}

/// The segments of the folder, those with low numbers first.
pub fn list(segments: &Segments) -> Result<Vec<Listed>, String> {
    let mut listed = Vec::new();
    for life in segments.lives().map_err(text)? {
        for segment in life.segments.iter().filter(|segment| !segment.is_spare) {
            if let Some(error) = &segment.error {
                return Err(format!("a segment cannot be read: {error}"));
            }
            let name = SegmentName { life: life.life, slot: life.slot, number: segment.number };
            let end = match segment.records {
                Some(records) => Some(records),
                None if !segment.is_owned => {
                    Some(segments.read(name, segment.synced, SEGMENT_RECORDS).map_err(text)?.next)
                }
                None => None,
            };
            listed.push(Listed { name, end });
        }
    }
    listed.sort_by_key(|listed| (listed.name.number, listed.name));
    Ok(listed)
}

/// Reads on in each listed segment, at most so many places of each.
pub fn read(segments: &Segments, store: &Store, listed: &[Listed], most: u32) -> Result<Batch, String> {
    let mut batch = Batch::default();
    for Listed { name, end } in listed {
        let before = store.cursors.get(name).copied().unwrap_or_default();
        if before.done {
            continue;
        }
        let read = segments.read(*name, before.next, most).map_err(text)?;
        let entries = read.records.iter().filter(|record| record.kind == RecordKind::Entry);
        batch.entries.extend(entries.map(|record| ((*name, record.sequence), Entry::decode(&record.payload))));
        let damage = !read.gaps.is_empty() || matches!(read.tail, Tail::Torn { .. }) || read.header_is_damaged;
        let done = end.is_some_and(|end| read.next >= end || damage && read.next == before.next);
        let cursor = Cursor { next: read.next, done, damaged: before.damaged || damage };
        if cursor != before {
            batch.cursors.insert(*name, cursor);
        }
    }
    Ok(batch)
}

/// Whether a listed segment may go, as the compactor and `src/ext/ledger.rs` ask. `has_permits`: of a dead owner, by slot and life.
pub fn is_over(
    segments: &Segments,
    store: &Store,
    listed: &Listed,
    has_permits: impl Fn(u8, u64) -> bool,
) -> Result<Option<SegmentName>, String> {
    let name = listed.name;
    let cursor = store.cursors.get(&name).copied().unwrap_or_default();
    if !cursor.done || cursor.damaged {
        return Ok(None);
    }
    let lives = segments.lives().map_err(text)?;
    let Some(life) = lives.iter().find(|life| (life.life, life.slot) == (name.life, name.slot)) else {
        return Ok(Some(name));
    };
    let is_needed = if life.is_alive {
        let begun = life.segments.iter().rev().filter(|segment| !segment.is_spare);
        begun.take(KEPT).any(|segment| segment.number == name.number)
    } else {
        has_permits(name.slot, name.life)
    };
    Ok((!is_needed).then_some(name))
}

#[allow(clippy::needless_pass_by_value)] // made for `map_err`
pub fn text(error: std::io::Error) -> String {
    error.to_string()
}
