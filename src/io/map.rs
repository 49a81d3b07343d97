//! Files as memory: words that processes share, and bytes that nobody changes.
//!
//! In: an open file and a range. Out: an owner that keeps the range mapped at one address. A range is given its blocks
//! (`allocate`) before it is mapped, and a map past the end of a file is refused: touching a hole on a full disk, or a page
//! that the file does not have, would be a SIGBUS. The meaning of the words is the caller's.
//!
//! Files in the data folder belong to the gateway: truncating one under a running gateway kills it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Error, ErrorKind};
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicU64;

use aigw_core::cells::Words;
use memmap2::{Mmap, MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// A shared, writable run of words.
#[derive(Debug)]
pub struct WordMap {
    map: MmapRaw,
}

impl WordMap {
    /// Maps `words` words from byte `offset` (a multiple of 8) on. The file must already be that long.
    pub fn new(file: &File, offset: u64, words: usize) -> io::Result<Self> {
        let bytes = words.checked_mul(size_of::<AtomicU64>()).filter(|&bytes| bytes > 0);
        let bytes = bytes.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "a map of no words, or of too many"))?;
        let end = offset.checked_add(bytes as u64);
        if !offset.is_multiple_of(8) || end.is_none_or(|end| end > file.metadata().map_or(0, |about| about.len())) {
            return Err(Error::new(
                ErrorKind::UnexpectedEof,
                "the file is shorter than it must be: move it away and start again",
            ));
        }
        Ok(Self { map: MmapOptions::new().offset(offset).len(bytes).map_raw(file)? })
    }
}

impl Words for WordMap {
    #[inline]
    #[allow(clippy::cast_ptr_alignment)] // aligned: see SAFETY
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the map is `len` bytes of readable and writable memory that stays in place as long as `self.map`
        // lives, and the slice borrows `self`. It starts on a page boundary plus a multiple of 8, so it is aligned.
        // Any bit pattern is a valid u64. This process reaches the memory through `AtomicU64` only, and so do the
        // others that map it; the pages exist, since `new` checked the length of the file.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast::<AtomicU64>(), self.map.len() / 8) }
    }
}

/// Bytes of a file that is not written any more, or of its published part.
#[derive(Debug)]
pub struct ByteMap {
    map: Option<Mmap>,
}

impl ByteMap {
    /// Maps the first `len` bytes. The file must be that long, and these bytes must never change again.
    pub fn new(file: &File, len: usize) -> io::Result<Self> {
        if file.metadata()?.len() < len as u64 {
            return Err(Error::new(ErrorKind::UnexpectedEof, "the file is shorter than its published length"));
        }
        if len == 0 {
            return Ok(Self { map: None });
        }
        // SAFETY: the map is read-only and lives as long as `Self`. The bytes do not change under the borrow: key and
        // policy files are written under another name and renamed when complete, and a file that is appended to is
        // mapped only up to a length that was published after those bytes were written.
        Ok(Self { map: Some(unsafe { MmapOptions::new().len(len).map(file)? }) })
    }
}

impl AsRef<[u8]> for ByteMap {
    fn as_ref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

/// Gives a range of a file its blocks on disk, as zeroes where there were none, and makes the file that long.
///
/// `StorageFull` on a full disk; the file may be longer then, but keeps its content.
pub fn allocate(file: &File, offset: u64, len: u64) -> io::Result<()> {
    loop {
        match fallocate(file, FallocateFlags::empty(), offset, len) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP) => return write_zeroes(file, offset, len),
            Err(error) => return Err(error.into()),
        }
    }
}

/// For file systems without `fallocate`: writes zeroes up to the new length.
fn write_zeroes(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let block = [0; 4_096];
    let end = offset.saturating_add(len);
    let mut at = file.metadata()?.len().max(offset);
    while at < end {
        let part = usize::try_from(end - at).map_or(block.len(), |left| left.min(block.len()));
        file.write_all_at(&block[..part], at)?;
        at += part as u64;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::sync::atomic::Ordering;

    fn scratch(name: &str) -> File {
        let path = std::env::temp_dir().join(format!("aigw-map-{}-{name}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file
    }

    #[test]
    fn two_maps_of_a_range_are_the_same_words() {
        let file = scratch("shared");
        allocate(&file, 0, 8_192).unwrap();
        let (one, two) = (WordMap::new(&file, 0, 1_024).unwrap(), WordMap::new(&file, 4_096, 512).unwrap());
        one.words()[600].store(42, Ordering::Relaxed);
        assert_eq!(two.words()[88].load(Ordering::Relaxed), 42);
    }

    #[test]
    fn nothing_is_mapped_past_the_end() {
        let file = scratch("short");
        allocate(&file, 0, 4_096).unwrap();
        assert_eq!(WordMap::new(&file, 0, 513).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(WordMap::new(&file, 4_096, 1).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(WordMap::new(&file, 0, 0).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(ByteMap::new(&file, 4_097).is_err());
        assert!(ByteMap::new(&file, 0).unwrap().as_ref().is_empty());
    }

    #[test]
    fn zeroes_are_written_only_where_nothing_was() {
        let file = scratch("zeroes");
        file.write_all_at(b"kept", 0).unwrap();
        write_zeroes(&file, 0, 10_000).unwrap();
        let bytes = ByteMap::new(&file, 10_000).unwrap();
        assert_eq!(&bytes.as_ref()[..4], b"kept");
        assert!(bytes.as_ref()[4..].iter().all(|&byte| byte == 0));
    }
}
