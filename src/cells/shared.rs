//! The layout of files of words: the header they share, and the position of a column's row.
//!
//! A file is a header of 512 words (4 KiB) and then its body. A column's body grows by appended chunks, each as long
//! as all before it together, so that nothing that is mapped ever moves and a hundred million rows need twenty
//! chunks. Pure arithmetic and checks: files and maps are made in `aigw-io`.

use super::atomic::{AtomicU64, Ordering};

use super::LayoutError;

/// Words of every file's header.
pub const HEADER_WORDS: usize = 512;

/// Words at the end of a column's header that all its rows share, for the limit kind that counts there.
pub const COLUMN_WORDS: usize = 256;

/// Words of a column's first chunk, and of its second; each later one is twice as long as the one before.
const FIRST_CHUNK: u64 = 512;

/// Chunks a column may have: 4 Gi words.
pub const MAX_CHUNKS: usize = 24;

/// Header words of every file.
pub mod header {
    /// The sort of the file; stored last, when the rest is in place.
    pub const MAGIC: usize = 0;
    /// Version of the file's layout: [`super::CellFile::layout`].
    pub const VERSION: usize = 1;
    /// The store the counters belong to, first of two words.
    pub const STORE: usize = 2;
    /// First word free for the own use of this sort of file.
    pub const OWN: usize = 4;
}

/// Sorts of file, by their magic word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellFile {
    /// A column of dense counters.
    Column,
    /// The hash area.
    Open,
    /// A worker's slot.
    Slot,
}

impl CellFile {
    fn magic(self) -> u64 {
        u64::from_le_bytes(match self {
            Self::Column => *b"aigwcolm",
            Self::Open => *b"aigwopen",
            Self::Slot => *b"aigwslot",
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Column => "column",
            Self::Open => "open area",
            Self::Slot => "slot",
        }
    }

    /// The version of the layout that this program reads and writes.
    pub const fn layout(self) -> u64 {
        match self {
            Self::Column | Self::Open => 1,
            // 1: entries of 64 words, amounts of 32 bits (`journal_v1`).
            // 2: entries of 96 words, without a row for the ledger.
            Self::Slot => 3,
        }
    }

    /// Writes the common header, the magic word last.
    pub fn format(self, words: &[AtomicU64], store: [u64; 2]) -> Result<(), LayoutError> {
        let header = words.get(..HEADER_WORDS).ok_or(LayoutError::Foreign(self.name()))?;
        header[header::VERSION].store(self.layout(), Ordering::Relaxed);
        header[header::STORE].store(store[0], Ordering::Relaxed);
        header[header::STORE + 1].store(store[1], Ordering::Relaxed);
        header[header::MAGIC].store(self.magic(), Ordering::Release);
        Ok(())
    }

    /// Checks the common header and returns the store id in it.
    pub fn check(self, words: &[AtomicU64]) -> Result<[u64; 2], LayoutError> {
        let (found, known) = (self.found_layout(words)?, self.layout());
        if found != known {
            return Err(LayoutError::Version { kind: self.name(), found, known });
        }
        let header = words.get(..HEADER_WORDS).ok_or(LayoutError::Foreign(self.name()))?;
        Ok([header[header::STORE].load(Ordering::Relaxed), header[header::STORE + 1].load(Ordering::Relaxed)])
    }

    /// The version in the common header of a file of this sort.
    pub fn found_layout(self, words: &[AtomicU64]) -> Result<u64, LayoutError> {
        let header = words.get(..HEADER_WORDS).ok_or(LayoutError::Foreign(self.name()))?;
        if header[header::MAGIC].load(Ordering::Acquire) != self.magic() {
            return Err(LayoutError::Foreign(self.name()));
        }
        Ok(header[header::VERSION].load(Ordering::Relaxed))
    }
}

/// A run of a column's words: chunk `0..MAX_CHUNKS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// First word, counted from the start of the body.
    pub start: u64,
    /// Number of words.
    pub words: u64,
}

/// The chunk with number `n`.
pub const fn chunk(n: usize) -> Chunk {
    match n {
        0 => Chunk { start: 0, words: FIRST_CHUNK },
        _ => Chunk { start: FIRST_CHUNK << (n - 1), words: FIRST_CHUNK << (n - 1) },
    }
}

/// The chunk that a word of the body is in, and its index there.
#[inline]
pub fn chunk_of(word: u64) -> (usize, usize) {
    let n = if word < FIRST_CHUNK { 0 } else { (word / FIRST_CHUNK).ilog2() as usize + 1 };
    // An index within a chunk of at most 4 Gi words fits where 64-bit maps do.
    (n, usize::try_from(word - chunk(n).start).unwrap_or(usize::MAX))
}

/// The number of chunks that hold `rows` rows of `width` words; `None` when a column cannot be so long.
pub fn chunks_for(rows: u64, width: u64) -> Option<usize> {
    let words = rows.checked_mul(width)?;
    let chunks = if words == 0 { 1 } else { chunk_of(words - 1).0 + 1 };
    (chunks <= MAX_CHUNKS).then_some(chunks)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn chunks_follow_each_other_and_every_word_is_in_its_own() {
        let mut end = 0;
        for n in 0..MAX_CHUNKS {
            let Chunk { start, words } = chunk(n);
            assert_eq!(start, end);
            assert_eq!(chunk_of(start), (n, 0));
            assert_eq!(chunk_of(start + words - 1), (n, usize::try_from(words - 1).unwrap()));
            assert_eq!(start * 8 % 4096, 0, "chunks start on pages");
            end = start + words;
        }
    }

    #[test]
    fn a_column_has_as_many_chunks_as_its_rows_need() {
        assert_eq!(chunks_for(0, 1), Some(1));
        assert_eq!(chunks_for(512, 1), Some(1));
        assert_eq!(chunks_for(513, 1), Some(2));
        assert_eq!(chunks_for(512, 2), Some(2));
        assert_eq!(chunks_for(1_000_001, 1), Some(12));
        assert_eq!(chunks_for(u64::MAX, 2), None);
        assert_eq!(chunks_for(u64::from(u32::MAX), 2), None);
    }

    #[test]
    fn layouts_have_the_versions_that_files_name() {
        assert_eq!([CellFile::Column, CellFile::Open, CellFile::Slot].map(CellFile::layout), [1, 1, 3]);
        assert_eq!(
            [0, 1, 2, 3].map(chunk).map(|chunk| (chunk.start, chunk.words)),
            [(0, 512), (512, 512), (1_024, 1_024), (2_048, 2_048)]
        );
    }

    #[test]
    fn a_header_is_known_by_kind_and_version() {
        let words: Vec<AtomicU64> = (0..HEADER_WORDS).map(|_| AtomicU64::new(0)).collect();
        assert_eq!(CellFile::Open.check(&words), Err(LayoutError::Foreign("open area")));
        CellFile::Open.format(&words, [7, 8]).unwrap();
        assert_eq!(CellFile::Open.check(&words), Ok([7, 8]));
        assert_eq!(CellFile::Slot.check(&words), Err(LayoutError::Foreign("slot")));
        assert_eq!(CellFile::Open.check(&words[..9]), Err(LayoutError::Foreign("open area")));
        words[header::VERSION].store(9, Ordering::Relaxed);
        assert!(matches!(CellFile::Open.check(&words), Err(LayoutError::Version { found: 9, .. })));
    }
}
