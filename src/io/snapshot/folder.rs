//! The files in `DATA/snapshot`: their names, and durable writes.
//!
//! A file appears under its name only when its bytes are on disk; [`Folder::sync`] makes the names durable.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Error, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;

/// The three sorts of snapshot file; each file has a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SnapshotFile {
    Policy,
    Base,
    Delta,
}

impl SnapshotFile {
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

    pub(crate) fn path(&self, kind: SnapshotFile, number: u64) -> PathBuf {
        self.0.join(format!("{}{number}", kind.prefix()))
    }

    /// Opens a file; an error names it.
    pub(crate) fn open(&self, kind: SnapshotFile, number: u64, options: &OpenOptions) -> io::Result<File> {
        let path = self.path(kind, number);
        options.open(&path).map_err(|error| Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    /// Writes a whole file: its name appears when its bytes are on disk.
    pub(crate) fn write(&self, kind: SnapshotFile, number: u64, bytes: &[u8]) -> io::Result<()> {
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

    /// Removes every snapshot file that `keep` rejects. The next sweep tries again where a removal fails.
    ///
    /// The names go at once. A thread closes the last handles: freeing a base of 100 MB takes longer than the rest of a
    /// publish.
    pub(crate) fn sweep(&self, keep: impl Fn(SnapshotFile, u64) -> bool) {
        let mut gone = Vec::new();
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let file = name.to_str().and_then(|name| {
                SnapshotFile::ALL
                    .into_iter()
                    .find_map(|kind| Some((kind, name.strip_prefix(kind.prefix())?.parse().ok()?)))
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
