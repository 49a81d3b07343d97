//! Files of the cells folder: made whole or not at all, and of one store.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Error, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use aigw_core::cells::shared::{CellFile, HEADER_WORDS};
use aigw_core::cells::{LayoutError, Words};

use crate::map::WordMap;
use crate::store::StoreId;

/// Bytes of every file's header.
pub(super) const HEADER_BYTES: u64 = HEADER_WORDS as u64 * 8;

/// Makes the folder, for the gateway's user alone.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Opens an existing file of words.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path).map_err(|error| at(path, error))
}

/// Opens a file, or makes it: `fill` writes it under another name first, so that only whole files are visible. If two
/// processes make it at once, one wins and both open that file.
pub(super) fn open_or_make(path: &Path, fill: impl FnOnce(&File) -> io::Result<()>) -> io::Result<File> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        other => return other.map_err(|error| at(path, error)),
    }
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let made = make(&draft, path, fill);
    // Gone already when it was never made.
    let _ = fs::remove_file(&draft);
    made.map_err(|error| at(path, error))?;
    open(path)
}

fn make(draft: &Path, path: &Path, fill: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(draft)?;
    fill(&file)?;
    file.sync_all()?;
    match fs::hard_link(draft, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => File::open(path.parent().unwrap_or(path))?.sync_all(),
    }
}

/// Names the file in an error.
#[allow(clippy::needless_pass_by_value)] // made for `map_err`
pub(super) fn at(path: &Path, error: Error) -> Error {
    Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Checks that a file is of the expected sort and store.
pub(super) fn check(kind: CellFile, path: &Path, words: &WordMap, store: StoreId) -> io::Result<()> {
    let found = kind.check(words.words()).map_err(|error| invalid(path, &error))?;
    if found == store {
        return Ok(());
    }
    let text = "these counters belong to another store: stop the gateway, move the cells folder away, start again";
    Err(at(path, Error::new(ErrorKind::InvalidData, text)))
}

/// A layout error as an I/O error.
pub(super) fn invalid(path: &Path, error: &LayoutError) -> Error {
    at(path, Error::new(ErrorKind::InvalidData, error.to_string()))
}
