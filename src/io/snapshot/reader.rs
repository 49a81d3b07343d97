//! The worker's side: the snapshot in force.
//!
//! In: the control page and the files it names. Out: [`SnapshotReader::current`], one load and one comparison when
//! nothing changed. Invariant: a snapshot is taken whole or not at all. When a load fails, the reader keeps the old snapshot
//! and the error, and tries again. A new policy keeps the loaded keys, new keys keep the policy, and a longer delta is read
//! from the end of the last read.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aigw_core::clock::Clock as _;
use aigw_core::snapshot::{Keys, Policy, Snapshot, SnapshotError, file};
use arc_swap::ArcSwap;

use super::folder::{Folder, SnapshotFile};
use super::page::{ControlPage, Published};
use crate::clock::SystemClock;
use crate::map::ByteMap;
use crate::store::StoreId;

/// Wait before a failed load of one generation is tried again: each try parses files, and requests wait for it.
const RETRY: Duration = Duration::from_millis(100);
/// Tries of a load whose files a newer publish removed meanwhile.
const ATTEMPTS: usize = 5;

/// Why a snapshot could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A missing or unreadable file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A damaged file.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// The snapshot in force, for one worker.
#[derive(Debug)]
pub struct SnapshotReader {
    folder: Folder,
    page: ControlPage,
    current: ArcSwap<Snapshot>,
    loading: Mutex<Loading>,
    failures: AtomicU64,
    clock: SystemClock,
}

#[derive(Debug, Default)]
struct Loading {
    /// Number of the policy in `current`.
    policy: u64,
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    generation: u64,
    at: Duration,
    text: String,
}

impl SnapshotReader {
    /// Opens the data folder; the control process must have opened it before. The snapshot is empty until the first publish.
    pub fn open(data: &Path) -> io::Result<Self> {
        Ok(Self {
            folder: Folder::of(data),
            page: ControlPage::open(&data.join("cells"))?,
            current: ArcSwap::from_pointee(Snapshot::empty()),
            loading: Mutex::default(),
            failures: AtomicU64::new(0),
            clock: SystemClock::new(),
        })
    }

    /// The store of the data folder, needed to open its counters.
    pub fn store(&self) -> StoreId {
        self.page.store()
    }

    /// The snapshot in force now. Every request calls this once, before it matches a route.
    #[inline]
    pub fn current(&self) -> Arc<Snapshot> {
        let current = self.current.load();
        if current.generation == self.page.generation() {
            return Arc::clone(&current);
        }
        drop(current);
        self.renew()
    }

    /// The generation that should be in force now.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.page.generation()
    }

    /// Why the generation in force could not be loaded; `None` when it is loaded.
    pub fn error(&self) -> Option<String> {
        self.loading().failed.as_ref().map(|failed| failed.text.clone())
    }

    /// Generations that could not be loaded since the last call.
    pub fn take_failures(&self) -> u64 {
        self.failures.swap(0, Ordering::Relaxed)
    }

    fn loading(&self) -> std::sync::MutexGuard<'_, Loading> {
        // A panic leaves it whole: it is changed by single assignments.
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn renew(&self) -> Arc<Snapshot> {
        let mut loading = self.loading();
        let old = self.current.load_full();
        let wanted = self.page.generation();
        if old.generation == wanted {
            return old;
        }
        let now = self.clock.monotonic();
        if loading.failed.as_ref().is_some_and(|f| f.generation == wanted && now.saturating_sub(f.at) < RETRY) {
            return old;
        }
        match self.load(&old, loading.policy) {
            Ok((snapshot, policy)) => {
                *loading = Loading { policy, failed: None };
                let snapshot = Arc::new(snapshot);
                self.current.store(Arc::clone(&snapshot));
                snapshot
            }
            Err(error) => {
                if loading.failed.as_ref().is_none_or(|failed| failed.generation != wanted) {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                }
                loading.failed = Some(Failed { generation: wanted, at: now, text: error.to_string() });
                old
            }
        }
    }

    fn load(&self, old: &Snapshot, old_policy: u64) -> Result<(Snapshot, u64), LoadError> {
        let mut attempt = 1;
        loop {
            let published = self.page.read();
            let policy = || -> Result<Arc<Policy>, LoadError> {
                if published.policy == old_policy { Ok(Arc::clone(&old.policy)) } else { self.policy(published.policy) }
            };
            let loaded = policy().and_then(|policy| Ok((policy, self.keys(&old.keys, published)?)));
            match loaded {
                Ok((policy, keys)) => {
                    let snapshot = Snapshot { generation: published.generation, policy, keys };
                    return Ok((snapshot, published.policy));
                }
                // A publish may have removed the files since the page was read; the page names others now.
                Err(_) if attempt < ATTEMPTS && self.page.generation() != published.generation => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn policy(&self, number: u64) -> Result<Arc<Policy>, LoadError> {
        let file = self.folder.open(SnapshotFile::Policy, number, OpenOptions::new().read(true))?;
        let bytes = ByteMap::new(&file, usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX))?;
        Ok(Arc::new(file::policy(bytes.as_ref())?))
    }

    fn keys(&self, old: &Keys, published: Published) -> Result<Keys, LoadError> {
        let wanted = usize::try_from(published.delta).unwrap_or(usize::MAX);
        let mut keys = if published.base == old.base_number() && old.applied() <= wanted {
            old.clone()
        } else {
            let file = self.folder.open(SnapshotFile::Base, published.base, OpenOptions::new().read(true))?;
            let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
            Keys::open(Arc::new(ByteMap::new(&file, len)?))?
        };
        if keys.applied() < wanted {
            let file = self.folder.open(SnapshotFile::Delta, published.base, OpenOptions::new().read(true))?;
            if file.metadata()?.len() < published.delta {
                let why = "the file is shorter than its published length";
                return Err(SnapshotError::Delta { at: wanted, why }.into());
            }
            let mut bytes = vec![0; wanted - keys.applied()];
            file.read_exact_at(&mut bytes, keys.applied() as u64)?;
            keys.apply(&bytes)?;
        }
        Ok(keys)
    }
}
