//! One mapped segment file, open for writing: its places, and the words of its header.
//!
//! The file is locked as long as it is open here: a reader that finds it unlocked knows that nobody will write it any more.

use std::fs::{File, TryLockError};
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use aigw_core::cells::Words;
use aigw_core::clock::Clock;
use aigw_core::entry::record::{Payload, RECORD_WORDS, RecordKind, SEGMENT_RECORDS, decode, encode, publish};

use super::files::{Files, at};
use super::header::{self, HEADER_WORDS, Word};
use super::name::SegmentName;
use super::place::Inode;
use crate::clock::SystemClock;
use crate::map::WordMap;
use crate::store::StoreId;

/// Bytes of a segment file.
pub(super) const SEGMENT_BYTES: u64 = bytes(SEGMENT_RECORDS);
const PAGE_WORDS: usize = 512;

/// A segment that this process writes.
#[derive(Debug)]
pub(super) struct Segment {
    pub name: SegmentName,
    pub file: File,
    /// Records that it has places for.
    pub places: u32,
    pub inode: Inode,
    map: WordMap,
}

impl Segment {
    /// Makes the file under its draft's name: locked, all its blocks on disk and its pages in memory. A leftover of that name goes.
    pub fn draft(files: &dyn Files, dir: &Path, store: StoreId, name: SegmentName) -> Result<Self> {
        let path = dir.join(name.draft());
        remove(files, &path)?;
        let made = Self::make(files, &path, store, name);
        if made.is_err() {
            // Its blocks would be missing elsewhere; the next draft tries again.
            let _ = remove(files, &path);
        }
        made.map_err(|error| at(&path, error))
    }

    fn make(files: &dyn Files, path: &Path, store: StoreId, name: SegmentName) -> Result<Self> {
        let file = files.create(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::from(ErrorKind::ResourceBusy),
            TryLockError::Error(error) => error,
        })?;
        let places = files.places();
        files.allocate(&file, bytes(places))?;
        let map = WordMap::new(&file, 0, words(places))?;
        for page in map.words().chunks(PAGE_WORDS) {
            // A page that is stored to is a page that has its block and its memory.
            page[0].store(0, Ordering::Relaxed);
        }
        header::format(map.words(), store, name, SystemClock::new().unix_nanos());
        let inode = Inode::of(&file.metadata()?);
        Ok(Self { name, file, places, inode, map })
    }

    pub fn path(&self, dir: &Path) -> PathBuf {
        dir.join(self.name.to_string())
    }

    /// Publishes a record in its place.
    #[inline]
    pub fn write(&self, sequence: u32, kind: RecordKind, payload: &Payload) {
        publish(self.place(sequence), &encode(kind, sequence, payload));
    }

    #[inline]
    pub fn set(&self, word: Word, value: u32) {
        word.store(self.map.words(), value);
    }

    /// Copies some places and the header's words of another file of the same segment. Returns the records that it could not copy: the
    /// kernel had dropped their pages.
    pub fn copy(&self, from: &Self, first: u32, end: u32) -> u32 {
        let mut lost = 0;
        for sequence in first..end {
            let mut words = [0; RECORD_WORDS];
            for (word, from) in words.iter_mut().zip(from.place(sequence)) {
                *word = from.load(Ordering::Relaxed);
            }
            lost += u32::from(decode(&words, sequence).is_err());
            publish(self.place(sequence), &words);
        }
        header::copy(from.map.words(), self.map.words());
        lost
    }

    #[inline]
    fn place(&self, sequence: u32) -> &[AtomicU64] {
        let first = HEADER_WORDS + sequence as usize * RECORD_WORDS;
        &self.map.words()[first..first + RECORD_WORDS]
    }
}

const fn words(places: u32) -> usize {
    HEADER_WORDS + places as usize * RECORD_WORDS
}

const fn bytes(places: u32) -> u64 {
    words(places) as u64 * 8
}

/// Takes a file's name away, if there is such a file.
pub(super) fn remove(files: &dyn Files, path: &Path) -> Result<()> {
    match files.unlink(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path, error)),
        _ => Ok(()),
    }
}
