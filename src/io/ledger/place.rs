//! Where the ledger lies: its folder, and the inodes that its files were made with.
//!
//! A file that was removed or moved takes writes and syncs without an error, and nobody finds them again. So its writer looks whether
//! the path still has the file. The folder is made once, by the first start: one that is gone has taken stored calls along, and one on
//! another file system, or in another data folder, is somebody else's, or lies below a mount that is away. Nothing is written there.

use std::fs::{DirBuilder, File, Metadata};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::files::{Files, at};

/// A file on its file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    pub fn of(about: &Metadata) -> Self {
        Self { device: about.dev(), number: about.ino() }
    }
}

/// The file at a path; `None` without one.
pub(super) fn found(files: &dyn Files, path: &Path) -> Result<Option<Inode>> {
    match files.metadata(path) {
        Ok(about) => Ok(Some(Inode::of(&about))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(at(path, error)),
    }
}

/// Whether an open file has no name at all any more.
pub(super) fn is_removed(file: &File) -> Result<bool> {
    Ok(file.metadata()?.nlink() == 0)
}

/// The place of the ledger's folder.
#[derive(Debug)]
pub(super) struct Home {
    dir: PathBuf,
    /// The data folder around it, and the folder's file system, once it was there.
    known: Option<(Inode, u64)>,
}

impl Home {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), known: None }
    }

    /// Makes the folder at first. Later an error, with the repair, where it is not in its place.
    pub fn check(&mut self, files: &dyn Files) -> Result<()> {
        let Some((around, device)) = self.known else {
            make_dir(&self.dir)?;
            let (around, dir) = (self.found(files, &self.around())?, self.found(files, &self.dir)?);
            self.known = Some((around, dir.device));
            return Ok(());
        };
        self.is_around(files, around)?;
        if self.found(files, &self.dir)?.device == device {
            return Ok(());
        }
        let text = "this folder is on another file system than the ledger: mount the ledger's again";
        Err(at(&self.dir, Error::new(ErrorKind::NotFound, text)))
    }

    /// Makes the ledger's folder once more, for records that no other folder can take. The data folder must exist.
    pub fn make_again(&self, files: &dyn Files) -> Result<()> {
        // One on a file system of its own is away with that.
        let Some((around, _)) = self.known.filter(|&(around, device)| around.device == device) else {
            return Err(at(&self.dir, ErrorKind::NotFound.into()));
        };
        self.is_around(files, around)?;
        make_dir(&self.dir)
    }

    fn is_around(&self, files: &dyn Files, around: Inode) -> Result<()> {
        if self.found(files, &self.around())? == around {
            return Ok(());
        }
        let text =
            "another folder took the place of the data folder: put the gateway's own back, or restart the gateway";
        Err(at(&self.around(), Error::new(ErrorKind::NotFound, text)))
    }

    fn found(&self, files: &dyn Files, path: &Path) -> Result<Inode> {
        found(files, path)?.ok_or_else(|| {
            let dir = self.dir.display();
            let text = format!("this folder is gone: put it back; where it is lost, make it anew (mkdir -p {dir})");
            at(path, Error::new(ErrorKind::NotFound, text))
        })
    }

    fn around(&self) -> PathBuf {
        let around = self.dir.parent().unwrap_or(Path::new("."));
        if around == Path::new("") { PathBuf::from(".") } else { around.to_owned() }
    }
}

/// Makes the folder, for the gateway's user alone.
pub(super) fn make_dir(dir: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| at(dir, error))
}
