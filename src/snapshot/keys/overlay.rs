//! The changes since the base, as maps that are cheap to copy and to add to.
//!
//! A map is 256 shards behind reference counts; adding to a copy copies only the shards it touches. A new snapshot with one
//! more key costs microseconds, independent of earlier changes, and readers of the old snapshot see no change.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

const SHARDS: usize = 256;

type Shard<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

/// A copy-on-write map.
#[derive(Debug, Clone)]
pub(super) struct Overlay<K, V> {
    /// Empty until the first insertion.
    shards: Vec<Arc<Shard<K, V>>>,
}

impl<K: Hash + Eq + Clone, V: Clone> Overlay<K, V> {
    pub(super) const fn new() -> Self {
        Self { shards: Vec::new() }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.shards.get(shard(key))?.get(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.shards.is_empty() {
            self.shards.resize_with(SHARDS, Arc::default);
        }
        Arc::make_mut(&mut self.shards[shard(&key)]).insert(key, value)
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some(shard) = self.shards.get_mut(shard(key)) {
            Arc::make_mut(shard).remove(key);
        }
    }
}

fn shard<K: Hash>(key: &K) -> usize {
    let mut mix = Mix::default();
    key.hash(&mut mix);
    // The bits in the middle: the map inside uses the lowest and the highest.
    usize::from(mix.finish().to_le_bytes()[3])
}

/// A hasher for keys that no client can choose: row numbers and HMACs.
#[derive(Debug, Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}
