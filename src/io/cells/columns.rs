//! Columns of dense counters: one file each, found by number without a lock.
//!
//! The control process makes columns and lets them grow; a worker opens one when a request first asks for it, and maps its
//! chunks on demand. A map never moves and is never undone, so a word, once found, stays valid. A chunk has its blocks
//! before the header counts it, and only counted chunks are mapped.

use std::array;
use std::fs::{self, File};
use std::io::{self, Error, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use aigw_core::cells::shared::{self, COLUMN_WORDS, CellFile, HEADER_WORDS, MAX_CHUNKS, header};
use aigw_core::cells::{Words, places};

use super::files;
use crate::map::{WordMap, allocate};
use crate::store::StoreId;

/// Header words: words of a row, chunks in use, the column's number, bytes of its key, the key, the words that all its rows share.
const WIDTH: usize = header::OWN;
const CHUNKS: usize = header::OWN + 1;
const NUMBER: usize = header::OWN + 2;
const KEY_BYTES: usize = header::OWN + 3;
const KEY: usize = header::OWN + 4;
const SHARED: usize = HEADER_WORDS - COLUMN_WORDS;
const KEY_ROOM: usize = (SHARED - KEY) * 8;

const PAGE: usize = 1_024;

/// All columns of a folder, by number below 1,048,576.
pub(super) struct Columns {
    dir: PathBuf,
    store: StoreId,
    pages: [OnceLock<Box<[OnceLock<Column>]>>; PAGE],
    /// Held while a column is opened or grown: file work is done once, not by each thread.
    changing: Mutex<()>,
}

/// One open column. Its header and first chunk are one map, so that a small column costs one.
struct Column {
    path: PathBuf,
    width: u64,
    head: WordMap,
    later: [OnceLock<WordMap>; MAX_CHUNKS - 1],
}

impl Columns {
    pub(super) fn new(dir: &Path, store: StoreId) -> Self {
        let pages = array::from_fn(|_| OnceLock::new());
        Self { dir: dir.to_owned(), store, pages, changing: Mutex::new(()) }
    }

    /// The first word of a row, if the column is there and has the row.
    #[inline]
    pub(super) fn word(&self, number: u32, row: u32) -> Option<&AtomicU64> {
        let column = self.column(number)?;
        let (words, index) = self.find_row(column, row)?;
        words.get(index)
    }

    /// All words of a row, if the column is there and has the row.
    #[inline]
    pub(super) fn row(&self, number: u32, row: u32) -> Option<&[AtomicU64]> {
        let column = self.column(number)?;
        let (words, index) = self.find_row(column, row)?;
        // 1, 2, 4, 8 or 16 words: a row lies in one chunk.
        words.get(index..index + usize::try_from(column.width).ok()?)
    }

    /// The map that a row is in, and the index of its first word there.
    #[inline]
    fn find_row<'a>(&self, column: &'a Column, row: u32) -> Option<(&'a [AtomicU64], usize)> {
        let (chunk, index) = shared::chunk_of(u64::from(row) * column.width);
        match chunk {
            0 => Some((column.head.words(), HEADER_WORDS + index)),
            _ => match column.later.get(chunk - 1)?.get() {
                Some(map) => Some((map.words(), index)),
                None => Some((self.map(column, chunk).ok()?.words(), index)),
            },
        }
    }

    /// The words of the column's header that all its rows share.
    #[inline]
    pub(super) fn shared(&self, number: u32) -> &[AtomicU64] {
        self.column(number).and_then(|column| column.head.words().get(SHARED..HEADER_WORDS)).unwrap_or_default()
    }

    #[inline]
    fn column(&self, number: u32) -> Option<&Column> {
        match self.place(number)?.get() {
            Some(column) => Some(column),
            None => self.find(number).ok(),
        }
    }

    /// Makes the column, or lets it grow to hold `rows` rows. For the control process only.
    pub(super) fn ensure(&self, number: u32, width: u64, rows: u64, key: &str) -> io::Result<()> {
        let wrong = |text: String| Error::new(ErrorKind::InvalidInput, text);
        if self.place(number).is_none() {
            return Err(wrong(format!("column {number}: numbers go up to {}", PAGE * PAGE - 1)));
        }
        if !matches!(width, 1 | 2 | 4 | 8 | 16) {
            return Err(wrong(format!("column {number}: a row has 1, 2, 4, 8 or 16 words, not {width}")));
        }
        let chunks = shared::chunks_for(rows, width);
        let chunks = chunks.ok_or_else(|| wrong(format!("column {number}: {rows} rows are too many")))?;
        let path = self.path(number);
        let file = {
            let _changing = self.changing();
            files::open_or_make(&path, |file| self.fill(file, number, width, key))?
        };
        let column = self.find(number)?;
        column.is(number, width, key)?;
        let _changing = self.changing();
        let words = column.head.words();
        if words[CHUNKS].load(Ordering::Acquire) < chunks as u64 {
            let end = shared::chunk(chunks - 1);
            let body = (end.start + end.words) * 8;
            allocate(&file, files::HEADER_BYTES, body).map_err(|error| files::at(&path, error))?;
            file.sync_all()?;
            words[CHUNKS].store(chunks as u64, Ordering::Release);
        }
        if width == u64::from(places::WORDS) { column.end_calls() } else { Ok(()) }
    }

    /// When the column's file was made, where the file system tells.
    pub(super) fn made(&self, number: u32) -> Option<SystemTime> {
        fs::metadata(self.path(number)).and_then(|file| file.created()).ok()
    }

    /// The highest number below `end` that has a file; 0 for none.
    pub(super) fn highest(&self, end: u32) -> io::Result<u32> {
        let mut highest = 0;
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("column-")?.parse().ok());
            highest = highest.max(number.filter(|number| *number < end).unwrap_or(0));
        }
        Ok(highest)
    }

    fn fill(&self, file: &File, number: u32, width: u64, key: &str) -> io::Result<()> {
        let first = shared::chunk(0).words * 8;
        allocate(file, 0, files::HEADER_BYTES + first)?;
        let kept = kept_key(key);
        file.write_all_at(kept, KEY as u64 * 8)?;
        let head = WordMap::new(file, 0, HEADER_WORDS)?;
        let words = head.words();
        words[WIDTH].store(width, Ordering::Relaxed);
        words[CHUNKS].store(1, Ordering::Relaxed);
        words[NUMBER].store(u64::from(number), Ordering::Relaxed);
        words[KEY_BYTES].store(kept.len() as u64, Ordering::Relaxed);
        CellFile::Column.format(words, self.store).map_err(|error| files::invalid(&self.path(number), &error))
    }

    #[inline]
    fn place(&self, number: u32) -> Option<&OnceLock<Column>> {
        let number = number as usize;
        let page = self.pages.get(number / PAGE)?;
        page.get_or_init(|| (0..PAGE).map(|_| OnceLock::new()).collect()).get(number % PAGE)
    }

    /// Opens a column's file, once.
    #[cold]
    fn find(&self, number: u32) -> io::Result<&Column> {
        let place = self.place(number).ok_or(ErrorKind::InvalidInput)?;
        let _changing = self.changing();
        if let Some(column) = place.get() {
            return Ok(column);
        }
        let path = self.path(number);
        let first = shared::chunk(0).words;
        let words = HEADER_WORDS + usize::try_from(first).map_err(Error::other)?;
        let head = WordMap::new(&files::open(&path)?, 0, words).map_err(|error| files::at(&path, error))?;
        files::check(CellFile::Column, &path, &head, self.store)?;
        let width = head.words()[WIDTH].load(Ordering::Relaxed);
        let found = head.words()[NUMBER].load(Ordering::Relaxed);
        if found != u64::from(number) || !matches!(width, 1 | 2 | 4 | 8 | 16) {
            let text = format!("it holds column {found} with {width} words a row: move it away and start again");
            return Err(files::at(&path, Error::new(ErrorKind::InvalidData, text)));
        }
        Ok(place.get_or_init(|| Column { path, width, head, later: array::from_fn(|_| OnceLock::new()) }))
    }

    /// Maps a later chunk, once, if the header counts it.
    #[cold]
    fn map<'a>(&self, column: &'a Column, chunk: usize) -> io::Result<&'a WordMap> {
        let _changing = self.changing();
        column.map(chunk)
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("column-{number}"))
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Column {
    /// Sets counters of calls in flight to 0, once after a restart of the machine: no call has outlived it, and after a loss of
    /// power the journals may not name all places.
    fn end_calls(&self) -> io::Result<()> {
        let words = self.head.words();
        let boot = super::slots::boot();
        if words[SHARED].load(Ordering::Acquire) == boot {
            return Ok(());
        }
        let chunks = usize::try_from(words[CHUNKS].load(Ordering::Acquire)).unwrap_or(0);
        for chunk in 1..chunks {
            if self.later.get(chunk - 1).is_some_and(|map| map.get().is_none()) {
                self.map(chunk)?;
            }
        }
        let first = words.get(HEADER_WORDS..).unwrap_or_default();
        let later = self.later.iter().filter_map(OnceLock::get).flat_map(Words::words);
        first.iter().chain(later).for_each(|word| word.store(0, Ordering::Relaxed));
        words[SHARED].store(boot, Ordering::Release);
        Ok(())
    }

    /// Maps a later chunk, once, if the header counts it. The caller holds the lock of changes.
    fn map(&self, chunk: usize) -> io::Result<&WordMap> {
        let place = self.later.get(chunk - 1).ok_or(ErrorKind::NotFound)?;
        if let Some(map) = place.get() {
            return Ok(map);
        }
        if self.head.words()[CHUNKS].load(Ordering::Acquire) <= chunk as u64 {
            return Err(ErrorKind::NotFound.into());
        }
        let shared::Chunk { start, words } = shared::chunk(chunk);
        let words = usize::try_from(words).map_err(Error::other)?;
        let map = WordMap::new(&files::open(&self.path)?, files::HEADER_BYTES + start * 8, words)?;
        Ok(place.get_or_init(|| map))
    }

    /// Refuses a column that counts something else than expected.
    fn is(&self, number: u32, width: u64, key: &str) -> io::Result<()> {
        let words = self.head.words();
        let room = &words[KEY..SHARED];
        let bytes = usize::try_from(words[KEY_BYTES].load(Ordering::Relaxed)).unwrap_or(0).min(KEY_ROOM);
        let text: Vec<u8> =
            room.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).take(bytes).collect();
        if self.width == width && text == kept_key(key) {
            return Ok(());
        }
        let found = String::from_utf8_lossy(&text).into_owned();
        let text = format!(
            "column {number} counts {found:?} in {} words a row, not {key:?} in {width}: was the store restored from a \
             backup? Stop the gateway, move the cells folder away, start again",
            self.width
        );
        Err(files::at(&self.path, Error::new(ErrorKind::InvalidData, text)))
    }
}

/// The beginning of a key, as long as the header has room for.
fn kept_key(key: &str) -> &[u8] {
    &key.as_bytes()[..key.len().min(KEY_ROOM)]
}
