//! The disk: real small files in memory, of which only synced parts survive a loss of power.
//!
//! Segments are short, so worlds fill them. Each `fdatasync` keeps a copy of the file. A loss of power leaves the names of the last
//! folder sync or those of now, and of each sector (512 bytes) its synced words or those of now. The disk may be full, and the next
//! operations may fail.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{Error, Result};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use aigw_io::ledger::{Files, SegmentName};

use crate::drawn::Drawn;

/// Records of a segment: 4 KiB with its header.
pub const PLACES: u32 = 15;
/// Bytes of a record and of a header.
pub const RECORD: u64 = 256;

/// The disk of a world, over a folder of its own.
pub struct VirtualDisk {
    dir: PathBuf,
    /// Planted: `fdatasync` does nothing.
    skips_sync: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_full: bool,
    /// So many operations fail from the next one on.
    failing: u32,
    /// The next `fdatasync` fails.
    sync_fails: bool,
    /// Every file that was made, by inode: open, so that inodes are not used again.
    files: HashMap<u64, File>,
    /// Bytes as of the last sync, by inode.
    synced: HashMap<u64, Vec<u8>>,
    failed: HashSet<u64>,
    names: BTreeMap<PathBuf, u64>,
    synced_names: BTreeMap<PathBuf, u64>,
}

impl VirtualDisk {
    /// An empty disk.
    pub fn new(dir: &Path, skips_sync: bool) -> Self {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir).unwrap();
        Self { dir: dir.to_owned(), skips_sync, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn fill(&self, is_full: bool) {
        self.state().is_full = is_full;
    }

    pub fn fail_next(&self, operations: u32) {
        self.state().failing = operations;
    }

    pub fn fail_sync(&self) {
        self.state().sync_fails = true;
    }

    /// All is well from now on.
    pub fn heal(&self) {
        let mut state = self.state();
        (state.is_full, state.failing, state.sync_fails) = (false, 0, false);
    }

    /// A file that the control process has removed.
    pub fn removed(&self, name: SegmentName) {
        self.state().names.remove(&self.dir.join(name.to_string()));
    }

    /// Leaves the first words of a record in its place: its writer died before it published it.
    pub fn tear(&self, name: SegmentName, sequence: u32, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        if let Ok(file) = OpenOptions::new().write(true).open(self.dir.join(name.to_string())) {
            file.write_all_at(&bytes, RECORD * (u64::from(sequence) + 1) + 8).unwrap();
        }
    }

    /// The power goes, and comes back. No process has a file open any more.
    pub fn lose_power(&self, dice: &mut Drawn) {
        let mut state = self.state();
        let names = if dice.below(2) == 0 { state.names.clone() } else { state.synced_names.clone() };
        // Mostly a disk has few sectors newer than the last sync.
        let share = 1 + dice.below(6);
        let mut kept = Vec::new();
        for (path, inode) in names {
            let file = &state.files[&inode];
            let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            let synced = state.synced.get(&inode);
            for (n, sector) in bytes.chunks_mut(512).enumerate() {
                let was = synced.map_or(&[0; 512][..sector.len()], |synced| &synced[n * 512..][..sector.len()]);
                if sector != was && dice.below(share) > 0 {
                    sector.copy_from_slice(was);
                }
            }
            kept.push((path, bytes));
        }
        for path in state.names.keys() {
            let _ = fs::remove_file(path);
        }
        *state = State::default();
        for (path, bytes) in kept {
            fs::write(&path, &bytes).unwrap();
            let file = File::open(&path).unwrap();
            let inode = inode(&file);
            state.files.insert(inode, file);
            state.synced.insert(inode, bytes);
            state.names.insert(path, inode);
        }
        state.synced_names = state.names.clone();
    }

    fn work(&self) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        if state.failing > 0 {
            state.failing -= 1;
            return Err(Error::from_raw_os_error(5));
        }
        Ok(state)
    }
}

impl Drop for VirtualDisk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Files for VirtualDisk {
    fn places(&self) -> u32 {
        PLACES
    }

    fn create(&self, path: &Path) -> Result<File> {
        let mut state = self.work()?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let inode = inode(&file);
        state.files.insert(inode, File::open(path)?);
        state.names.insert(path.to_owned(), inode);
        Ok(file)
    }

    fn allocate(&self, file: &File, bytes: u64) -> Result<()> {
        if self.work()?.is_full { Err(Error::from_raw_os_error(28)) } else { file.set_len(bytes) }
    }

    fn fdatasync(&self, file: &File) -> Result<()> {
        let mut state = self.work()?;
        let inode = inode(file);
        assert!(!state.failed.contains(&inode), "a file is synced again after its sync failed");
        if std::mem::take(&mut state.sync_fails) {
            state.failed.insert(inode);
            return Err(Error::from_raw_os_error(5));
        }
        if !self.skips_sync {
            let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap()];
            file.read_exact_at(&mut bytes, 0)?;
            state.synced.insert(inode, bytes);
        }
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> Result<()> {
        let mut state = self.work()?;
        state.synced_names = state.names.clone();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.work()?;
        fs::rename(from, to)?;
        let inode = state.names.remove(from).unwrap();
        state.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn unlink(&self, path: &Path) -> Result<()> {
        let mut state = self.work()?;
        state.names.remove(path);
        fs::remove_file(path)
    }
}

fn inode(file: &File) -> u64 {
    file.metadata().unwrap().ino()
}
