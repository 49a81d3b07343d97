//! The work behind the appends: makes the spare, and puts records on disk in groups. The thread `aigw-ledger` runs it in rounds.
//!
//! A round syncs all that is unsynced, oldest first, and then says so: in the segment's header, for readers, and to calls that
//! wait. After a failed `fdatasync` the kernel may have dropped the pages and call them clean, so that file is never synced again: its
//! records go to a copy, the copy is synced, and then takes the file's name. Records keep their places, and at each step the
//! file of that name has all of them. A file that was removed, or moved away, gets a copy in the same way: each second a round looks
//! whether the open files are at their paths. A failed step is told in the status and done again after [`RETRY`], for ever.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::files::at;
use super::name::SegmentName;
use super::parts::Parts;
use super::place::{Home, found, is_removed};
use super::segment::{Segment, remove};
use super::state::Held;

/// From one group sync to the next while nobody waits for it: a record is on disk within two of them. Each sync costs 80 us of
/// processor time, and turns the pages that it wrote into pages that fault again.
pub(super) const GROUP: Duration = Duration::from_millis(5);
/// The same where a call waits for its record.
pub(super) const HURRY: Duration = Duration::from_millis(2);
/// From a failed step to its repetition: four times within the second in which a disk with room again must be noticed.
pub(super) const RETRY: Duration = Duration::from_millis(250);
/// From one look at the files' names to the next.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest pause; an append ends it.
const IDLE: Duration = Duration::from_secs(1);
/// Rounds of trying to put the last records on disk when a worker ends.
const LAST_ROUNDS: u32 = 4;

/// One writer's work: [`Self::work`] again and again, from one thread.
#[derive(Debug)]
pub struct Syncer {
    shared: Arc<Parts>,
    /// Number of the next segment.
    next: u32,
    /// Names of the folder are not on disk: no record in it counts as synced.
    names: bool,
    /// The same of the folder's own name.
    folder: bool,
    home: Home,
    /// No step is done before.
    retry: [Option<Instant>; 3],
}

const MAKE: usize = 0;
const SYNC: usize = 1;
const LOOK: usize = 2;
/// From a step that succeeded to its next time; `None`: each round.
const EVERY: [Option<Duration>; 3] = [None, None, Some(LOOK_EVERY)];

impl Syncer {
    pub(super) fn new(shared: Arc<Parts>) -> Self {
        let home = Home::new(&shared.dir);
        Self { shared, next: 0, names: false, folder: true, home, retry: [None; 3] }
    }

    /// One round. Returns the time until the next is due; an append, or a call that waits, may ask for it earlier.
    pub fn work(&mut self, now: Instant) -> Duration {
        self.step(LOOK, now, Self::look);
        self.step(SYNC, now, Self::sync);
        self.step(MAKE, now, Self::provide);
        if self.shared.state().unsynced() > 0 {
            return GROUP;
        }
        let wait = |at: &Option<Instant>| at.map(|at| at.saturating_duration_since(now));
        self.retry.iter().filter_map(wait).min().unwrap_or(IDLE)
    }

    /// Seals the current segment and puts all records on disk. An error names the file that cannot be put there: its records
    /// survive all but a loss of power.
    pub fn finish(&mut self) -> Result<()> {
        let spare = self.shared.state().close();
        if let Some(spare) = spare {
            // A leftover is found by the readers of a life that has ended, and removed with it.
            let _ = remove(&*self.shared.files, &spare.path(&self.shared.dir));
        }
        let mut result = Ok(());
        for _ in 0..LAST_ROUNDS {
            result = self.sync();
            if result.is_ok() {
                break;
            }
        }
        if result.is_err() && self.home.make_again(&*self.shared.files).is_ok() {
            result = self.sync();
        }
        self.shared.tell(SYNC, result.as_ref().err());
        self.shared.end_of_syncs();
        result
    }

    fn step(&mut self, step: usize, now: Instant, work: impl FnOnce(&mut Self) -> Result<()>) {
        if self.retry[step].is_some_and(|at| now < at) {
            return;
        }
        // Also for a panic: the step is done again, but not at once.
        self.retry[step] = Some(now + RETRY);
        let result = work(self);
        if result.is_ok() {
            self.retry[step] = EVERY[step].map(|pause| now + pause);
        }
        self.shared.tell(step, result.as_ref().err());
    }

    /// Looks whether each open file is at its path, and writes a missing file again. The worker refuses calls while that fails.
    fn look(&mut self) -> Result<()> {
        let files = self.shared.state().files();
        let looked = files.iter().try_for_each(|segment| self.put_back(segment));
        self.shared.state().set_displaced(looked.is_err());
        looked
    }

    fn put_back(&mut self, segment: &Segment) -> Result<()> {
        if self.is_lost(segment)? {
            // The folder may be another one, whose own name is not on disk.
            self.folder = true;
            return match self.lose(segment) {
                Some(due) => self.replace(&due),
                None => self.renew_spare(segment),
            };
        }
        if found(&*self.shared.files, &segment.path(&self.shared.dir))? == Some(segment.inode) {
            return Ok(());
        }
        self.home.check(&*self.shared.files)
    }

    /// Whether a file has lost its name. One that was moved along with the folder has not: it comes back with it.
    fn is_lost(&mut self, segment: &Segment) -> Result<bool> {
        let path = segment.path(&self.shared.dir);
        if found(&*self.shared.files, &path)? == Some(segment.inode) {
            return Ok(false);
        }
        Ok(is_removed(&segment.file)? || self.home.check(&*self.shared.files).is_ok())
    }

    /// Ends the use of a file that has lost its name. Returns its records; `None` for the spare.
    fn lose(&self, segment: &Segment) -> Option<Held> {
        let mut is_news = false;
        let due = self.shared.held(segment.name.number, |held| {
            is_news = !std::mem::replace(&mut held.failed, true);
            // Its synced records went with the name.
            held.synced = 0;
            held.clone()
        });
        if is_news {
            self.note_loss(segment);
        }
        due
    }

    fn note_loss(&self, segment: &Segment) {
        let text = "this file was removed or moved while it was written: its records go to a new one";
        self.shared.note_failure(at(&segment.path(&self.shared.dir), Error::new(ErrorKind::NotFound, text)));
    }

    /// Makes another file for the spare. This file is the spare before it has its name, so it has the records that come meanwhile.
    fn renew_spare(&mut self, lost: &Segment) -> Result<()> {
        let spare = Arc::new(self.draft(lost.name)?);
        self.sync_draft(&spare)?;
        if !self.shared.state().renew_spare(&spare) {
            self.discard(&spare);
            return Err(at(&lost.path(&self.shared.dir), ErrorKind::Interrupted.into()));
        }
        self.names = true;
        let path = spare.path(&self.shared.dir);
        let renamed = self.shared.files.rename(&self.shared.dir.join(spare.name.draft()), &path);
        renamed.map_err(|error| at(&path, error))?;
        self.note_loss(lost);
        Ok(())
    }

    /// Makes the segments that are wanted.
    fn provide(&mut self) -> Result<()> {
        while self.shared.state().wants_segment() {
            let name = self.name(self.next);
            let segment = self.draft(name)?;
            self.sync_draft(&segment)?;
            let path = segment.path(&self.shared.dir);
            self.names = true;
            if let Err(error) = self.shared.files.rename(&self.shared.dir.join(name.draft()), &path) {
                self.discard(&segment);
                return Err(at(&path, error));
            }
            self.shared.state().install(Arc::new(segment));
            self.next += 1;
        }
        self.sync_names()
    }

    /// Puts the records on disk that there are by now.
    fn sync(&mut self) -> Result<()> {
        let mut failed = false;
        loop {
            let Some(due) = self.shared.state().due() else { return Ok(()) };
            if due.failed {
                self.replace(&due)?;
                continue;
            }
            self.sync_names()?;
            if let Err(error) = self.shared.files.fdatasync(&due.segment.file) {
                self.shared.held(due.number(), |held| held.failed = true);
                let error = self.shared.note_failure(at(&due.segment.path(&self.shared.dir), error));
                // The copy at once, but one a round: a disk may fail each of them.
                if std::mem::replace(&mut failed, true) {
                    return Err(error);
                }
                continue;
            }
            // The last sync of a file that is left: nobody holds its records afterwards.
            let is_left = !self.shared.state().is_current(due.number());
            if is_left && self.is_lost(&due.segment)? {
                self.lose(&due.segment);
                continue;
            }
            let mut state = self.shared.state();
            let done = state.note_synced(due.number(), due.records);
            let is_current = state.is_current(due.number());
            drop(state);
            // Unmapped and unlocked only here, outside the mutex.
            drop(done);
            self.shared.say_synced(due.number(), due.records);
            if is_current {
                return Ok(());
            }
        }
    }

    /// Gives a segment whose sync failed a new file.
    fn replace(&mut self, due: &Held) -> Result<()> {
        let (name, path) = (due.segment.name, due.segment.path(&self.shared.dir));
        let draft = self.shared.dir.join(name.draft());
        if !due.renaming {
            // Left by a round that was broken off.
            drop(self.shared.held(name.number, |held| held.copy.take()));
            self.copy(due)?;
            self.shared.held(name.number, |held| held.renaming = true);
        }
        if let Err(error) = self.shared.files.rename(&draft, &path) {
            let was_renamed = due.renaming && matches!(draft.try_exists(), Ok(false));
            if !was_renamed {
                let copy = self.shared.held(name.number, |held| {
                    held.renaming = false;
                    held.copy.take()
                });
                copy.flatten().inspect(|copy| self.discard(copy));
                return Err(at(&path, error));
            }
        }
        self.names = true;
        let old = self.shared.held(name.number, |held| {
            (held.failed, held.renaming) = (false, false);
            held.copy.take().map(|copy| std::mem::replace(&mut held.segment, copy))
        });
        drop(old);
        Ok(())
    }

    /// A whole copy of a segment, on disk under its draft's name; from here on appends write both.
    fn copy(&mut self, due: &Held) -> Result<()> {
        let copy = Arc::new(self.draft(due.segment.name)?);
        let mut lost = copy.copy(&due.segment, 0, due.records);
        self.shared.held(due.number(), |held| {
            lost += copy.copy(&held.segment, due.records, held.records);
            held.copy = Some(Arc::clone(&copy));
        });
        if let Err(error) = self.sync_draft(&copy) {
            self.shared.held(due.number(), |held| held.copy = None);
            return Err(error);
        }
        self.shared.note_lost(lost);
        Ok(())
    }

    fn draft(&mut self, name: SegmentName) -> Result<Segment> {
        self.home.check(&*self.shared.files)?;
        Segment::draft(&*self.shared.files, &self.shared.dir, self.shared.store, name)
    }

    fn sync_draft(&self, draft: &Segment) -> Result<()> {
        self.shared.files.fdatasync(&draft.file).map_err(|error| {
            self.discard(draft);
            self.shared.note_failure(at(&self.shared.dir.join(draft.name.draft()), error))
        })
    }

    fn discard(&self, draft: &Segment) {
        // The next draft of this name removes it first.
        let _ = remove(&*self.shared.files, &self.shared.dir.join(draft.name.draft()));
    }

    /// Puts the folder's names on disk, where they have changed.
    fn sync_names(&mut self) -> Result<()> {
        let dir = &self.shared.dir;
        if self.names {
            self.shared.files.sync_dir(dir).map_err(|error| at(dir, error))?;
            self.names = false;
        }
        if let Some(parent) = dir.parent().filter(|_| self.folder && dir.exists()) {
            let parent = if parent == Path::new("") { Path::new(".") } else { parent };
            self.shared.files.sync_dir(parent).map_err(|error| at(parent, error))?;
            self.folder = false;
        }
        Ok(())
    }

    fn name(&self, number: u32) -> SegmentName {
        SegmentName { life: self.shared.life, slot: self.shared.slot, number }
    }
}
