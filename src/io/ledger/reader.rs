//! The ledger's folder as the control process sees it: the lives in it, the records of a segment, and the removal of segments.
//!
//! A segment whose file is locked has an owner that lives: its records are read as far as they are on disk, so a loss of power takes
//! no record that was read. A segment that nobody locks will not change any more: all of its records are read. Nothing here
//! repairs or changes a file, and a file of another store, version or name is an error.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, fence};

use aigw_core::entry::record::{RECORD_WORDS, Record, SEGMENT_RECORDS};
use aigw_core::entry::recover::{Extent, Gap, Recovered, Tail, recover};

use super::files::at;
use super::header::{self, FIRST, Foreign, HEADER_WORDS, Header};
use super::name::SegmentName;
use super::segment::SEGMENT_BYTES;
use crate::store::StoreId;

/// All segments of one process and slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Start of the process that writes it: unix nanoseconds.
    pub life: u64,
    /// Its slot.
    pub slot: u8,
    /// Whether it is still there.
    pub is_alive: bool,
    /// Whether it ended in order: no segment follows.
    pub is_closed: bool,
    /// Its segments that are there, by number.
    pub segments: Vec<SegmentReport>,
}

/// A segment, by its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// Its number.
    pub number: u32,
    /// Its owner lives and may change it.
    pub is_owned: bool,
    /// Nothing was written to it yet: it waits until the segment before it is full.
    pub is_spare: bool,
    /// Unix nanoseconds of its making; 0 where they cannot be read.
    pub made_at: u64,
    /// Records that were on disk when its owner last said so.
    pub synced: u32,
    /// All of its records, where its owner has said that no more will come.
    pub records: Option<u32>,
    /// Why it cannot be read: a file of another store, version or name.
    pub error: Option<String>,
    /// It is whole, and no file of this store.
    pub is_of_another_store: bool,
}

/// Records of a segment, and the state of the places between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRead {
    /// The records, in order.
    pub records: Vec<Record>,
    /// The place to read on from.
    pub next: u32,
    /// No record will ever stand at `next` or behind it.
    pub is_finished: bool,
    /// Places before `next` that have lost their records.
    pub gaps: Vec<Gap>,
    /// The end of a segment whose owner died, once it is finished.
    pub tail: Tail,
    /// Some of the header's words cannot be read; the records were read as far as their own checks carry.
    pub header_is_damaged: bool,
    /// Bytes that are missing at the end of the file.
    pub missing_bytes: u64,
}

/// The folder `DATA/ledger`, for reading.
#[derive(Clone, Debug)]
pub struct Segments {
    dir: PathBuf,
    store: StoreId,
}

/// A segment file, open, and its owner's state when it was opened.
struct Opened {
    file: File,
    is_owned: bool,
    bytes: u64,
    header: Header,
}

impl Opened {
    /// Places of records that the file has bytes of.
    fn places(&self) -> u32 {
        // The header is as long as a place.
        let places = self.bytes.div_ceil(RECORD_WORDS as u64 * 8).saturating_sub(1);
        u32::try_from(places).unwrap_or(SEGMENT_RECORDS)
    }
}

impl Segments {
    /// The segments in this folder, which need not exist. They must be of this store.
    pub fn open(dir: &Path, store: StoreId) -> Self {
        Self { dir: dir.to_owned(), store }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All lives with segments, oldest first. A file that cannot be read has its error in its report.
    pub fn lives(&self) -> Result<Vec<Life>> {
        let mut lives: BTreeMap<(u64, u8), Life> = BTreeMap::new();
        for name in self.names(SegmentName::parse)? {
            let (report, closed) = match self.opened(name) {
                // Removed, or its folder was, since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => (SegmentReport::unreadable(name.number, &error, self.is_of_another_store(name)), false),
                Ok(opened) => (SegmentReport::new(name.number, &opened), opened.header.closed),
            };
            let life = lives.entry((name.life, name.slot)).or_insert_with(|| Life::new(name));
            life.is_alive |= report.is_owned;
            life.is_closed |= closed;
            life.segments.push(report);
        }
        Ok(lives.into_values().collect())
    }

    /// Reads at most `most` places of a segment from place `from` on. `NotFound` without such a file; `InvalidData` where it is another
    /// store's or a later version's.
    pub fn read(&self, name: SegmentName, from: u32, most: u32) -> Result<SegmentRead> {
        let opened = self.opened(name)?;
        let header = opened.header;
        let (extent, is_last) = if opened.is_owned {
            let synced = header.synced.unwrap_or(0);
            (Extent::Known(synced), header.records == Some(synced))
        } else {
            (self.extent(name, header), true)
        };
        // The records that the header told of were there before it told.
        fence(Ordering::Acquire);
        let end = match extent {
            Extent::Known(end) => end.min(from.saturating_add(most)),
            Extent::AtLeast(_) => SEGMENT_RECORDS,
        };
        // Places that the file does not have are empty.
        let there = opened.places().min(end).saturating_sub(from);
        let words = words_at(&opened.file, HEADER_WORDS + from as usize * RECORD_WORDS, there)
            .map_err(|error| at(&self.path(name), error))?;
        let Recovered { records, next, ended, gaps, tail, newer } = recover(&words, from, most, extent);
        if let Some(place) = newer.filter(|_| records.is_empty()) {
            let text = format!(
                "record {place} was written by a later version: nothing was changed; run the version that wrote it, or a later one"
            );
            return Err(at(&self.path(name), Error::new(ErrorKind::InvalidData, text)));
        }
        Ok(SegmentRead {
            records,
            next,
            is_finished: ended && is_last,
            gaps,
            tail,
            header_is_damaged: header.damaged,
            missing_bytes: SEGMENT_BYTES.saturating_sub(opened.bytes),
        })
    }

    /// Removes a segment whose records are all safe elsewhere. `ResourceBusy` while its owner may change it.
    pub fn remove(&self, name: SegmentName) -> Result<()> {
        let path = self.path(name);
        match self.opened(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(opened) if opened.is_owned => {
                let text = "its worker still writes it: it can be removed when it is full and on disk";
                Err(at(&path, Error::new(ErrorKind::ResourceBusy, text)))
            }
            Ok(_) => fs::remove_file(&path).map_err(|error| at(&path, error)),
        }
    }

    /// Removes files that were being made when their process died; returns their number.
    pub fn sweep(&self) -> Result<usize> {
        let mut removed = 0;
        for name in self.names(SegmentName::parse_draft)? {
            let path = self.dir.join(name.draft());
            let Ok(file) = File::open(&path) else { continue };
            if !is_locked(&file)? && is_still_at(&file, &path)? {
                removed += usize::from(fs::remove_file(&path).is_ok());
            }
        }
        Ok(removed)
    }

    /// How far a segment without an owner goes. The segment behind it knows best.
    fn extent(&self, name: SegmentName, header: Header) -> Extent {
        let next = name.next().and_then(|next| self.opened(next).ok());
        let before = next.and_then(|next| next.header.begun).filter(|&before| before != FIRST);
        let known = before.max(header.records);
        known.map_or(Extent::AtLeast(header.synced.unwrap_or(0)), Extent::Known)
    }

    fn names(&self, parse: impl Fn(&str) -> Option<SegmentName>) -> Result<Vec<SegmentName>> {
        let mut names = Vec::new();
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(names),
            entries => entries.map_err(|error| at(&self.dir, error))?,
        };
        for entry in entries {
            names.extend(entry?.file_name().to_str().and_then(&parse));
        }
        names.sort_unstable();
        Ok(names)
    }

    fn opened(&self, name: SegmentName) -> Result<Opened> {
        let path = self.path(name);
        let opened = || {
            let (file, is_owned) = open(&path)?;
            let bytes = file.metadata()?.len();
            let words = words_at(&file, 0, 1)?;
            let header = header::read(&words, self.store, name)
                .map_err(|foreign| Error::new(ErrorKind::InvalidData, self.told(foreign)))?;
            Ok(Opened { file, is_owned, bytes, header })
        };
        opened().map_err(|error| at(&path, error))
    }

    /// The reason with a repair that overwrites no other segment.
    fn told(&self, foreign: Foreign) -> String {
        match foreign {
            Foreign::Name(own) if self.path(own).exists() => {
                format!(
                    "this is a copy of {own}, which is in the folder, too: nothing was changed; move this file out of the folder"
                )
            }
            other => other.to_string(),
        }
    }

    /// Whether a file that was not opened says so of itself.
    fn is_of_another_store(&self, name: SegmentName) -> bool {
        let words = File::open(self.path(name)).and_then(|file| words_at(&file, 0, 1));
        words.is_ok_and(|words| header::read(&words, self.store, name) == Err(Foreign::Store))
    }

    fn path(&self, name: SegmentName) -> PathBuf {
        self.dir.join(name.to_string())
    }
}

impl Life {
    fn new(name: SegmentName) -> Self {
        Self { life: name.life, slot: name.slot, is_alive: false, is_closed: false, segments: Vec::new() }
    }
}

impl SegmentReport {
    fn new(number: u32, opened: &Opened) -> Self {
        let Header { made_at, begun, synced, records, damaged, .. } = opened.header;
        Self {
            number,
            is_owned: opened.is_owned,
            is_spare: begun.is_none() && !damaged,
            made_at,
            synced: synced.unwrap_or(0),
            records,
            error: None,
            is_of_another_store: false,
        }
    }

    fn unreadable(number: u32, error: &Error, is_of_another_store: bool) -> Self {
        Self {
            number,
            is_owned: false,
            is_spare: false,
            made_at: 0,
            synced: 0,
            records: None,
            error: Some(error.to_string()),
            is_of_another_store,
        }
    }
}

/// Opens a segment, and says whether its owner lives. Read the header only afterwards: an owner that lived then has published less
/// than it has now, and a dead one nothing more.
fn open(path: &Path) -> Result<(File, bool)> {
    loop {
        let file = File::open(path)?;
        if is_locked(&file)? {
            return Ok((file, true));
        }
        // A file that was replaced is not locked either: its owner writes the one that took its place.
        if is_still_at(&file, path)? {
            return Ok((file, false));
        }
    }
}

fn is_locked(file: &File) -> Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => {
            file.unlock()?;
            Ok(false)
        }
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn is_still_at(file: &File, path: &Path) -> Result<bool> {
    let (ours, named) = (file.metadata()?, fs::metadata(path)?);
    Ok((ours.dev(), ours.ino()) == (named.dev(), named.ino()))
}

/// The words of so many places from a word on. Bytes that the file does not have are 0.
fn words_at(file: &File, word: usize, places: u32) -> Result<Vec<u64>> {
    let mut bytes = vec![0; places as usize * RECORD_WORDS * 8];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], (word * 8 + filled) as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes.as_chunks().0.iter().map(|&word| u64::from_le_bytes(word)).collect())
}
