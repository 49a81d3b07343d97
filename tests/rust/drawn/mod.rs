//! Pseudo-random numbers, the same in each run (xorshift64).
#![allow(dead_code, unreachable_pub)]

/// The state: any number but 0.
pub struct Drawn(pub u64);

impl Drawn {
    /// A number below `most`.
    pub fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }

    /// An index below `most`.
    pub fn index(&mut self, most: usize) -> usize {
        usize::try_from(self.below(most as u64)).unwrap_or(0)
    }
}
