//! The tokenizer files of a data folder: `DATA/tokenizers`, each copy named by the SHA-256 of its content.
//!
//! In: the name of a copy. Out: its counter. The first count reads the copy, once for all threads and models of a process, and keeps it as long
//! as a configuration in force names it. A copy that cannot be read, and a text that its library fails on, count as the most tokens of
//! their bytes; [`Copies::take_faults`] tells it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use aigw_core::tokens::TokenCounter;
use ring::digest::{SHA256, digest};

use super::file::TokenizerFile;
use super::guarded::guarded;
use super::slow::Slow;

/// The copies that are in use.
#[derive(Debug)]
pub(super) struct Copies {
    folder: PathBuf,
    known: Mutex<HashMap<Box<str>, Weak<Copy>>>,
    faults: Arc<Faults>,
}

/// Texts without an exact count since the last look.
#[derive(Debug, Default)]
struct Faults {
    texts: AtomicU64,
    why: Mutex<Option<String>>,
}

impl Faults {
    fn add(&self, name: &str, why: &str) {
        self.texts.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_or_insert_with(|| format!("tokenizers/{name} {why}"));
    }
}

/// One copy, which its first count reads.
pub(super) struct Copy {
    path: PathBuf,
    name: Box<str>,
    per_byte: u32,
    begun: AtomicBool,
    read: OnceLock<Result<TokenizerFile, String>>,
    faults: Arc<Faults>,
}

impl Copies {
    pub fn of(data: &Path) -> Self {
        Self { folder: data.join("tokenizers"), known: Mutex::default(), faults: Arc::default() }
    }

    /// The counter of a copy. Costs no file access.
    pub fn counter(&self, name: &str, per_byte: u32) -> Arc<Copy> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, copy| copy.strong_count() > 0);
        if let Some(copy) = known.get(name).and_then(Weak::upgrade) {
            return copy;
        }
        let copy = Arc::new(Copy {
            path: self.folder.join(name),
            name: name.into(),
            per_byte,
            begun: AtomicBool::new(false),
            read: OnceLock::new(),
            faults: Arc::clone(&self.faults),
        });
        known.insert(name.into(), Arc::downgrade(&copy));
        copy
    }

    /// The texts that had no exact count since the last call, and the reason of the first one.
    pub fn take_faults(&self) -> Option<(u64, String)> {
        let texts = self.faults.texts.swap(0, Ordering::Relaxed);
        let why = self.faults.why.lock().unwrap_or_else(PoisonError::into_inner).take();
        (texts > 0).then(|| (texts, why.unwrap_or_default()))
    }
}

impl Copy {
    /// Reads the copy on a thread of its own, unless that was begun before.
    pub fn prepare(self: &Arc<Self>) {
        if !self.begun.swap(true, Ordering::Relaxed) {
            let copy = Arc::clone(self);
            let read = move || {
                let _ = copy.file();
            };
            // Without a thread the first count reads it.
            let _ = std::thread::Builder::new().name("vocabulary".into()).spawn(read);
        }
    }

    fn file(&self) -> &Result<TokenizerFile, String> {
        self.read.get_or_init(|| {
            let bytes = std::fs::read(&self.path).map_err(|error| format!("cannot be read: {error}"))?;
            if base16ct::lower::encode_string(digest(&SHA256, &bytes).as_ref()) != *self.name {
                return Err("has another content than the one that was checked".into());
            }
            guarded(|| TokenizerFile::read(&bytes)).and_then(|read| read)
        })
    }
}

impl TokenCounter for Copy {
    fn count(&self, text: &str) -> u64 {
        let counted = match self.file() {
            Ok(file) => guarded(|| file.count(text)).and_then(|counted| counted.map_err(|error| error.to_string())),
            Err(why) => Err(why.clone()),
        };
        counted.unwrap_or_else(|why| {
            self.faults.add(&self.name, &why);
            self.bound(text)
        })
    }

    fn bound(&self, text: &str) -> u64 {
        u64::from(self.per_byte).saturating_mul(text.len() as u64)
    }

    fn timed(&self, count: &dyn Fn() -> u64) -> u64 {
        Slow::in_body(count)
    }
}

impl std::fmt::Debug for Copy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copy").field("name", &self.name).finish_non_exhaustive()
    }
}
