//! Numbers not in use, as a stack that threads share without a lock.
//!
//! Last in, first out, so that the same few entries stay in the cache. The head carries a counter next to the top
//! number: a pop that was overtaken sees another head, even if the same number is on top again.

use super::atomic::{AtomicU32, AtomicU64, Ordering};

pub(super) struct Stack {
    head: AtomicU64,
    below: Box<[AtomicU32]>,
}

impl Stack {
    /// All numbers below `size`, the lowest on top. `size` itself, below the last one, is no number.
    pub(super) fn full(size: u32) -> Self {
        Self { head: AtomicU64::new(0), below: (1..=size).map(AtomicU32::new).collect() }
    }

    #[inline]
    pub(super) fn pop(&self) -> Option<u32> {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let top = (head & 0xffff_ffff) as u32;
            let below = self.below.get(top as usize)?.load(Ordering::Relaxed);
            match self.head.compare_exchange_weak(head, next(head, below), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(top),
                Err(now) => head = now,
            }
        }
    }

    #[inline]
    pub(super) fn push(&self, number: u32) {
        let Some(below) = self.below.get(number as usize) else { return };
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            below.store((head & 0xffff_ffff) as u32, Ordering::Relaxed);
            match self.head.compare_exchange_weak(head, next(head, number), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}

fn next(head: u64, top: u32) -> u64 {
    ((head >> 32).wrapping_add(1) << 32) | u64::from(top)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn head_never_comes_back() {
        let stack = Stack::full(2);
        let mut heads = HashSet::from([stack.head.load(Ordering::SeqCst)]);
        for _ in 0..100 {
            let number = stack.pop().unwrap_or_default();
            assert!(heads.insert(stack.head.load(Ordering::SeqCst)));
            stack.push(number);
            assert!(heads.insert(stack.head.load(Ordering::SeqCst)));
        }
        assert_eq!(next(0xffff_ffff_0000_0005, 7), 7, "its counter goes round");
    }

    #[test]
    fn gives_each_number_once_until_it_comes_back() {
        let stack = Stack::full(3);
        assert_eq!([stack.pop(), stack.pop(), stack.pop(), stack.pop()], [Some(0), Some(1), Some(2), None]);
        stack.push(1);
        assert_eq!((stack.pop(), stack.pop()), (Some(1), None));
    }

    #[test]
    fn no_number_is_held_by_two_threads() {
        let stack = Stack::full(8);
        let held: Vec<AtomicU32> = (0..8).map(|_| AtomicU32::new(0)).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Some(n) = stack.pop() {
                            assert_eq!(held[n as usize].fetch_add(1, Ordering::SeqCst), 0);
                            held[n as usize].fetch_sub(1, Ordering::SeqCst);
                            stack.push(n);
                        }
                    }
                });
            }
        });
        let left: HashSet<u32> = std::iter::from_fn(|| stack.pop()).collect();
        assert_eq!(left.len(), 8);
    }
}
