//! `DATA/cells/control`: the words that name the snapshot in force.
//!
//! ```text
//! word 0 magic   1 layout   2..4 store id   4 generation   8..11 and 16..19: policy, base, delta length
//! ```
//! In: the numbers of one publish. Out: the same, to every process that maps the page. Invariant: the three words of
//! generation G lie in the half G % 2, and are stored before the generation word; so a reader that finds the same
//! generation before and after has read words that belong together. One process writes, any number read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Error, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use aigw_core::cells::Words as _;

use crate::map::{WordMap, allocate};
use crate::store::StoreId;

const MAGIC: u64 = u64::from_le_bytes(*b"AIGWCTRL");
const LAYOUT: u64 = 1;
const STORE: usize = 2;
const GENERATION: usize = 4;
const HALVES: [usize; 2] = [8, 16];
const WORDS: usize = 512;
/// Larger numbers are damage, and would overflow: at a thousand publishes a second, 2^48 takes 8,900 years.
const MOST: u64 = 1 << 48;

/// The snapshot in force. 0 in a field: not yet published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Published {
    /// Counts publishes.
    pub generation: u64,
    /// Number of the policy file: the generation that wrote it.
    pub policy: u64,
    /// Number of the key base and its delta.
    pub base: u64,
    /// Bytes of the delta that are in force.
    pub delta: u64,
}

/// The mapped page.
#[derive(Debug)]
pub struct ControlPage {
    map: WordMap,
}

impl ControlPage {
    /// Maps the page of `cells` (`DATA/cells`); `NotFound` before the control process has run.
    pub fn open(cells: &Path) -> io::Result<Self> {
        let path = cells.join("control");
        let fail = |kind, why: &str| Error::new(kind, format!("{}: {why}", path.display()));
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|e| fail(e.kind(), &e.to_string()))?;
        let page = Self { map: WordMap::new(&file, 0, WORDS).map_err(|e| fail(e.kind(), &e.to_string()))? };
        if page.word(0).load(Ordering::Acquire) != MAGIC || page.word(1).load(Ordering::Acquire) != LAYOUT {
            return Err(fail(ErrorKind::InvalidData, "written by another version; stop the gateway and remove it"));
        }
        let Published { generation, policy, base, delta } = page.read();
        if [generation, policy, base, delta].into_iter().any(|number| number > MOST) {
            return Err(fail(ErrorKind::InvalidData, "it is damaged; stop the gateway and remove it"));
        }
        Ok(page)
    }

    /// Maps the page; makes a new one when it is missing or belongs to another store. For the control process.
    pub fn open_or_make(cells: &Path, store: StoreId) -> io::Result<Self> {
        match Self::open(cells) {
            Ok(page) if page.store() == store => return Ok(page),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let draft = cells.join("control.new");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        allocate(&file, 0, WORDS as u64 * 8)?;
        let page = Self { map: WordMap::new(&file, 0, WORDS)? };
        for (index, value) in [(0, MAGIC), (1, LAYOUT), (STORE, store[0]), (STORE + 1, store[1])] {
            page.word(index).store(value, Ordering::SeqCst);
        }
        file.sync_all()?;
        fs::rename(&draft, cells.join("control"))?;
        File::open(cells)?.sync_all()?;
        Ok(page)
    }

    // The map is WORDS long and every index is a constant below it.
    fn word(&self, index: usize) -> &AtomicU64 {
        &self.map.words()[index]
    }

    /// The store that the data folder belongs to.
    pub fn store(&self) -> StoreId {
        [self.word(STORE).load(Ordering::Acquire), self.word(STORE + 1).load(Ordering::Acquire)]
    }

    /// The generation in force: one load, for every request.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.word(GENERATION).load(Ordering::Acquire)
    }

    /// The snapshot in force; all fields belong to one generation.
    pub fn read(&self) -> Published {
        loop {
            let generation = self.word(GENERATION).load(Ordering::SeqCst);
            let half = HALVES[usize::from(generation % 2 == 1)];
            let [policy, base, delta] = [0, 1, 2].map(|i| self.word(half + i).load(Ordering::SeqCst));
            // The half of G is next written for G + 2, after the word has become G + 1.
            if self.word(GENERATION).load(Ordering::SeqCst) == generation {
                return Published { generation, policy, base, delta };
            }
        }
    }

    /// Puts the next generation in force. `next.generation` must be one more than now; the files must be durable.
    pub(crate) fn publish(&self, next: Published) {
        let half = HALVES[usize::from(next.generation % 2 == 1)];
        for (index, value) in [next.policy, next.base, next.delta].into_iter().enumerate() {
            self.word(half + index).store(value, Ordering::SeqCst);
        }
        self.word(GENERATION).store(next.generation, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn page_outlives_its_process_but_not_its_store() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ControlPage::open(dir.path()).unwrap_err().kind(), ErrorKind::NotFound);
        let page = ControlPage::open_or_make(dir.path(), [1, 2]).unwrap();
        assert_eq!(page.read(), Published::default());
        let next = Published { generation: 1, policy: 1, base: 1, delta: 24 };
        page.publish(next);
        drop(page);
        assert_eq!(ControlPage::open_or_make(dir.path(), [1, 2]).unwrap().read(), next);
        assert_eq!(ControlPage::open(dir.path()).unwrap().store(), [1, 2]);
        assert_eq!(ControlPage::open_or_make(dir.path(), [3, 4]).unwrap().read(), Published::default());
    }

    #[test]
    fn open_rejects_numbers_out_of_range() {
        let dir = tempfile::tempdir().unwrap();
        let page = ControlPage::open_or_make(dir.path(), [1, 2]).unwrap();
        for at in [GENERATION, HALVES[0], HALVES[0] + 2] {
            page.word(at).store(u64::MAX - 1, Ordering::Relaxed);
            let error = ControlPage::open(dir.path()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(error.to_string().contains("control: it is damaged"), "{error}");
            page.word(at).store(0, Ordering::Relaxed);
        }
        assert!(ControlPage::open(dir.path()).is_ok());
    }

    #[test]
    fn read_returns_words_of_one_generation() {
        let dir = tempfile::tempdir().unwrap();
        let page = ControlPage::open_or_make(dir.path(), [1, 2]).unwrap();
        let reader = ControlPage::open(dir.path()).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for generation in 1..=100_000 {
                    page.publish(Published {
                        generation,
                        policy: generation,
                        base: generation * 3,
                        delta: generation * 7,
                    });
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                let Published { generation, policy, base, delta } = reader.read();
                assert_eq!((policy, base, delta), (generation, generation * 3, generation * 7));
            }
        });
    }
}
