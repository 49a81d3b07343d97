//! The file operations of the ledger that can fail, behind one trait: tests fail the n-th of them.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{Error, Result};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aigw_core::entry::record::SEGMENT_RECORDS;

use crate::map;

/// Operations on files, each as the system call of its name.
pub trait Files: Send + Sync {
    /// Records that a new segment has places for, at most [`SEGMENT_RECORDS`]. Simulations make short segments, which they fill.
    fn places(&self) -> u32 {
        SEGMENT_RECORDS
    }

    /// Makes a file that must not exist yet, for the gateway's user alone.
    fn create(&self, path: &Path) -> Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
    }

    /// Gives an empty file its blocks on disk, as zeroes.
    fn allocate(&self, file: &File, bytes: u64) -> Result<()> {
        map::allocate(file, 0, bytes)
    }

    /// Puts a file's data on disk, also the pages that were changed through a map.
    fn fdatasync(&self, file: &File) -> Result<()> {
        file.sync_data()
    }

    /// Puts a folder's names on disk.
    fn sync_dir(&self, dir: &Path) -> Result<()> {
        File::open(dir)?.sync_all()
    }

    /// Describes the file or folder at a path.
    fn metadata(&self, path: &Path) -> Result<Metadata> {
        fs::metadata(path)
    }

    /// Gives a file another name; a file of that name loses it.
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to)
    }

    /// Takes a file's name away.
    fn unlink(&self, path: &Path) -> Result<()> {
        fs::remove_file(path)
    }
}

/// The file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {}

/// Names the file in an error.
#[allow(clippy::needless_pass_by_value)] // made for `map_err`
pub(super) fn at(path: &Path, error: Error) -> Error {
    Error::new(error.kind(), format!("{}: {error}", path.display()))
}
