//! Names and durable writing of the files in `DATA/snapshot`.
//!
//! A file appears under its name only when its bytes are on disk; [`Folder::sync`] makes the names durable, too.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Error, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;

/// A kind of snapshot file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Policy,
    Base,
    Delta,
}

impl FileKind {
    const ALL: [Self; 3] = [Self::Policy, Self::Base, Self::Delta];

    fn prefix(self) -> &'static str {
        match self {
            Self::Policy => "policy-",
            Self::Base => "keys-base-",
            Self::Delta => "keys-delta-",
        }
    }
}

/// The snapshot folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// The folder of this data folder, which may not exist.
    pub(crate) fn of(data: &Path) -> Self {
        Self(data.join("snapshot"))
    }

    /// Makes the folder, for the gateway's user alone.
    pub(crate) fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)
    }

    pub(crate) fn path(&self, kind: FileKind, number: u64) -> PathBuf {
        self.0.join(format!("{}{number}", kind.prefix()))
    }

    /// Opens a file; an error names it.
    pub(crate) fn open(&self, kind: FileKind, number: u64, options: &OpenOptions) -> io::Result<File> {
        let path = self.path(kind, number);
        options.open(&path).map_err(|error| Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    /// Writes a whole file: its name appears when its bytes are on disk.
    pub(crate) fn write(&self, kind: FileKind, number: u64, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(kind, number);
        let draft = self.0.join("draft");
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        };
        write().map_err(|error| Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    /// Makes the names durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    /// Removes every snapshot file that `keep` does not want. What cannot be removed is left for the next time.
    ///
    /// The names go at once, the space when the last handle is closed, by a thread of its own: to free a base of 100 MB takes
    /// longer than all else that a publish does.
    pub(crate) fn sweep(&self, keep: impl Fn(FileKind, u64) -> bool) {
        let mut gone = Vec::new();
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let file = name.to_str().and_then(|name| {
                FileKind::ALL.into_iter().find_map(|kind| Some((kind, name.strip_prefix(kind.prefix())?.parse().ok()?)))
            });
            if file.is_some_and(|(kind, number)| !keep(kind, number)) {
                gone.extend(File::open(entry.path()));
                let _ = fs::remove_file(entry.path());
            }
        }
        if !gone.is_empty() {
            // Without a thread the closure is dropped here, and the handles with it.
            let _ = thread::Builder::new().name("sweep".into()).spawn(move || drop(gone));
        }
    }
}
