//! The control process's side: it writes the files that workers read.
//!
//! In: a policy as JSON, key bases, changes of keys. Out: files in `DATA/snapshot`, and the words of the control page.
//! Invariant: a file is complete and on disk before the page names it; a failed call leaves the snapshot in force as it was,
//! and can be repeated. Files of the generation before last are removed. One writer per data folder.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use aigw_core::snapshot::file::{self, Highest, Sealed};
use aigw_core::snapshot::{KeysBuilder, SnapshotError, delta};
use aigw_core::standing::Sources;

use super::folder::{Folder, SnapshotFile};
use super::page::{ControlPage, Published};
use crate::store::StoreId;

/// Why something was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// An error of the disk.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// An invalid policy, base or change.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A first publish without a policy.
    #[error("the first publish needs a policy")]
    NoPolicy,
    /// The delta cannot be trusted any more.
    #[error("the published keys cannot be added to ({0}); write a new base")]
    NoDelta(String),
}

/// The writer of snapshots.
#[derive(Debug)]
pub struct SnapshotWriter {
    folder: Folder,
    page: Arc<ControlPage>,
    /// What the next publish puts in force; its generation is the last one published.
    next: Published,
    /// The snapshot of the publish before the last: its files stay for readers on the way. `None` before the first publish,
    /// so that the first change after a start does not pay for the removal of a whole base.
    before: Option<Published>,
    delta: Result<Delta, String>,
    /// Where the delta ended before the last append, and the records it had.
    appended: Option<(u64, usize)>,
    /// The policy whose file is written, and the generation in its name.
    staged: Option<(u64, Sealed)>,
    /// The limits of the policy that this process published last.
    limits: Option<Arc<Sources>>,
}

/// The delta that is appended to.
#[derive(Debug)]
struct Delta {
    file: File,
    records: usize,
    dirty: bool,
}

impl SnapshotWriter {
    /// Opens the data folder, and makes missing files. `DATA/cells` must exist.
    pub fn open(data: &Path, store: StoreId) -> io::Result<Self> {
        let folder = Folder::of(data);
        folder.make()?;
        let page = Arc::new(ControlPage::open_or_make(&data.join("cells"), store)?);
        let next = page.read();
        let delta = match next.base {
            0 => Err("there is no base yet".to_owned()),
            _ => Delta::reopen(&folder, next).map_err(|error| error.to_string()),
        };
        Ok(Self { folder, page, next, before: None, delta, appended: None, staged: None, limits: None })
    }

    /// The page, for callers that must not wait for a publish.
    pub fn page(&self) -> Arc<ControlPage> {
        Arc::clone(&self.page)
    }

    /// Records in the delta, to decide on a new base: more than any limit when it cannot be added to any more.
    pub fn delta_records(&self) -> usize {
        self.delta.as_ref().map_or(usize::MAX, |delta| delta.records)
    }

    /// Writes a new base and an empty delta on it; not in force until [`SnapshotWriter::publish`].
    pub fn write_base(&mut self, builder: KeysBuilder) -> Result<(), PublishError> {
        // A base that was written but never published is written over: nobody reads it.
        let number = self.page.read().base + 1;
        self.folder.write(SnapshotFile::Base, number, &builder.finish(number)?)?;
        self.folder.write(SnapshotFile::Delta, number, &delta::header(number))?;
        let file = self.folder.open(SnapshotFile::Delta, number, OpenOptions::new().read(true).write(true))?;
        self.delta = Ok(Delta { file, records: 0, dirty: false });
        self.appended = None;
        self.next.base = number;
        self.next.delta = delta::HEADER as u64;
        Ok(())
    }

    /// Adds changes to the delta, in this order; not in force until [`SnapshotWriter::publish`].
    pub fn append(&mut self, changes: &[delta::Change<'_>]) -> Result<(), PublishError> {
        let mut bytes = Vec::new();
        for change in changes {
            delta::encode(change, &mut bytes)?;
        }
        if self.next.base == 0 {
            self.write_base(KeysBuilder::new())?;
        }
        let delta = self.delta.as_mut().map_err(|why| PublishError::NoDelta(why.clone()))?;
        // The length moves only when all is written, so a failed append is written over by the next.
        delta.file.write_all_at(&bytes, self.next.delta)?;
        self.appended = Some((self.next.delta, delta.records));
        self.next.delta += bytes.len() as u64;
        delta.records += changes.len();
        delta.dirty = true;
        Ok(())
    }

    /// Takes back what the last append added and no publish has put in force: the change was not stored after all.
    pub fn take_back(&mut self) {
        if let (Some((end, records)), Ok(delta)) = (self.appended.take(), &mut self.delta) {
            self.next.delta = end;
            delta.records = records;
        }
    }

    /// Checks a policy and writes its file, so that the file has its room before the change behind it is stored. The next
    /// [`SnapshotWriter::publish`] of the same policy uses this file; that of another policy ignores it.
    pub fn stage(&mut self, policy: &[u8]) -> Result<Highest, PublishError> {
        let generation = self.next.generation + 1;
        if let Some((number, sealed)) = &self.staged
            && *number == generation
            && sealed.holds(policy)
        {
            return Ok(sealed.highest);
        }
        let sealed = file::seal(policy)?;
        self.staged = None; // a file of this name may be the one that is written over
        self.folder.write(SnapshotFile::Policy, generation, &sealed.file)?;
        Ok(self.staged.insert((generation, sealed)).1.highest)
    }

    /// The limits of the policy in force; `None` before this process has published one.
    pub fn limits(&self) -> Option<Arc<Sources>> {
        self.limits.clone()
    }

    /// Makes everything durable and puts it in force; `None` keeps the policy. Returns the generation.
    pub fn publish(&mut self, policy: Option<&[u8]>) -> Result<u64, PublishError> {
        if policy.is_none() && self.next.policy == 0 {
            return Err(PublishError::NoPolicy);
        }
        if self.next.base == 0 {
            self.write_base(KeysBuilder::new())?;
        }
        let generation = self.next.generation + 1;
        let in_force = self.page.read();
        if let Some(policy) = policy {
            self.stage(policy)?;
        }
        // A retry writes the file again: a failed fsync below may lose it.
        let staged = self.staged.take().filter(|_| policy.is_some());
        if let Ok(delta) = &mut self.delta
            && delta.dirty
        {
            if let Err(error) = delta.file.sync_data() {
                // After a failed fsync the kernel may have dropped the pages: this file is never trusted again.
                self.delta = Err(error.to_string());
                return Err(error.into());
            }
            delta.dirty = false;
        }
        if policy.is_some() || self.next.base != in_force.base {
            self.folder.sync()?;
        }
        if let Some((_, sealed)) = staged {
            self.next.policy = generation;
            self.limits = Some(Arc::new(sealed.policy.into()));
        }
        self.next.generation = generation;
        self.appended = None;
        self.page.publish(self.next);
        let (next, moved) = (self.next, self.next.base != in_force.base || policy.is_some());
        let left = self.before.is_none_or(|before| before.base != in_force.base || before.policy != in_force.policy);
        let before = if self.before.is_some() { in_force } else { next };
        if moved || left {
            self.folder.sweep(|kind, number| match kind {
                SnapshotFile::Policy => number == next.policy || number == before.policy,
                SnapshotFile::Base | SnapshotFile::Delta => number == next.base || number == before.base,
            });
        }
        self.before = Some(before);
        Ok(generation)
    }
}

impl Delta {
    /// The published delta, cut to its published length.
    fn reopen(folder: &Folder, published: Published) -> Result<Self, PublishError> {
        let file = folder.open(SnapshotFile::Delta, published.base, OpenOptions::new().read(true).write(true))?;
        folder.open(SnapshotFile::Base, published.base, OpenOptions::new().read(true))?;
        let len = usize::try_from(published.delta).unwrap_or(usize::MAX);
        if file.metadata()?.len() < published.delta {
            return Err(SnapshotError::Delta { at: len, why: "the file is shorter than its published length" }.into());
        }
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        let records = delta::count(&bytes, published.base)?;
        file.set_len(published.delta)?;
        Ok(Self { file, records, dirty: false })
    }
}
