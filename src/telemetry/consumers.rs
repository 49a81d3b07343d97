//! Answers by consumer: a bounded table that all workers share, without a lock.
//!
//! In: the numbers of a consumer and its route, a status. Out: two words for each combination that occurred: its key and its
//! count. The first [`MAX_CONSUMERS`] consumers that call have rows of their own; later ones share the consumer [`OTHER`]. A
//! combination that finds no place is left to the caller, who counts it without a consumer: every answer is counted once.

use crate::cells::atomic::{AtomicU64, Ordering};

use super::source::Source;

/// The column of this table: its number, above all that limits are given, and its key. A row has two words.
pub const CONSUMERS: (u32, &str) = (1_048_570, "metrics:consumers");
/// Consumers with a label of their own.
pub const MAX_CONSUMERS: u64 = 1_000;
/// Rows of combinations; 1 MiB.
pub const COMBINATIONS: u32 = 65_536;
/// Rows of the column: combinations, the consumers that have been seen, and their number.
pub const CONSUMER_ROWS: u32 = KNOWN + KNOWN_ROWS + 1;
/// The consumers that came too late for a label of their own.
pub const OTHER: u32 = (1 << CONSUMER_BITS) - 1;

const KNOWN: u32 = COMBINATIONS;
/// Twice as many as consumers, so that a search ends soon.
const KNOWN_ROWS: u32 = 2_048;
const KNOWN_COUNT: u32 = KNOWN + KNOWN_ROWS;
/// Rows that a search looks at before it gives up.
const PROBES: u32 = 64;

const STATUS_BITS: u32 = 9;
const ROUTE_BITS: u32 = 23;
const CONSUMER_BITS: u32 = 30;
/// No key is 0: that is a free row.
const USED: u64 = 1 << 63;

/// Finds the two words of a row; `None` when the column does not exist.
pub trait Rows<'a>: Fn(u32) -> Option<&'a [AtomicU64]> {}
impl<'a, F: Fn(u32) -> Option<&'a [AtomicU64]>> Rows<'a> for F {}

/// One combination and its count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByConsumer {
    /// Consumer number; [`OTHER`] for the rest.
    pub consumer: u32,
    /// Route number; 0 without a route.
    pub route: u32,
    /// The author of the answer.
    pub source: Source,
    /// Status of the answer, 100 to 599.
    pub status: u16,
    /// Answers.
    pub count: u64,
}

/// Counts an answer to a consumer. False: it found no place, and nothing was counted.
pub fn count<'a>(rows: &impl Rows<'a>, consumer: u32, route: u32, source: Source, status: u16) -> bool {
    let consumer = if consumer < OTHER && is_known(rows, consumer) { consumer } else { OTHER };
    let add = |consumer| {
        let key = key(consumer, route, source, status)?;
        let row = find(rows, 0, COMBINATIONS, key)?;
        row.get(1)?.fetch_add(1, Ordering::Relaxed);
        Some(())
    };
    add(consumer).or_else(|| add(OTHER)).is_some()
}

/// The combination of a row, as read.
#[must_use]
pub fn read(key: u64, count: u64) -> Option<ByConsumer> {
    if key & USED == 0 {
        return None;
    }
    let part = |shift: u32, bits: u32| (key >> shift) & ((1 << bits) - 1);
    Some(ByConsumer {
        status: u16::try_from(part(0, STATUS_BITS)).unwrap_or(0) + 100,
        source: if part(STATUS_BITS, 1) == 1 { Source::Exit } else { Source::Service },
        route: u32::try_from(part(STATUS_BITS + 1, ROUTE_BITS)).unwrap_or(0),
        consumer: u32::try_from(part(STATUS_BITS + 1 + ROUTE_BITS, CONSUMER_BITS)).unwrap_or(OTHER),
        count,
    })
}

/// `None` for a route number that has no room.
fn key(consumer: u32, route: u32, source: Source, status: u16) -> Option<u64> {
    let status = u64::from(status.clamp(100, 599)) - 100;
    let route = u64::from(route);
    (route < 1 << ROUTE_BITS).then_some(
        USED | u64::from(consumer) << (STATUS_BITS + 1 + ROUTE_BITS)
            | route << (STATUS_BITS + 1)
            | u64::from(source == Source::Exit) << STATUS_BITS
            | status,
    )
}

/// Whether the consumer has a label of its own; it gets one while there are any.
fn is_known<'a>(rows: &impl Rows<'a>, consumer: u32) -> bool {
    let key = USED | u64::from(consumer);
    let Some(number) = rows(KNOWN_COUNT).and_then(|row| row.first()) else { return false };
    for at in probes(KNOWN, KNOWN_ROWS, key, KNOWN_ROWS) {
        let Some(word) = rows(at).and_then(|row| row.first()) else { return false };
        let found = word.load(Ordering::Relaxed);
        if found == key {
            return true;
        }
        if found != 0 {
            continue;
        }
        if number.load(Ordering::Relaxed) >= MAX_CONSUMERS {
            return false;
        }
        // Counted first: with two workers at once the number may pass the bound for a moment, the consumers never do.
        if number.fetch_add(1, Ordering::Relaxed) < MAX_CONSUMERS {
            match word.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => {
                    number.fetch_sub(1, Ordering::Relaxed);
                    if other == key {
                        return true;
                    }
                }
            }
        } else {
            number.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
    }
    false
}

/// The row of a key, which is taken if it is free.
fn find<'a>(rows: &impl Rows<'a>, first: u32, size: u32, key: u64) -> Option<&'a [AtomicU64]> {
    for at in probes(first, size, key, PROBES) {
        let row = rows(at)?;
        let word = row.first()?;
        let found = match word.load(Ordering::Relaxed) {
            0 => {
                word.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|other| other, |_| key)
            }
            found => found,
        };
        if found == key {
            return Some(row);
        }
    }
    None
}

/// The rows at which a key may be, in the order of the search. `size`: a power of two.
fn probes(first: u32, size: u32, key: u64, most: u32) -> impl Iterator<Item = u32> {
    let home = u32::try_from(key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).unwrap_or(0);
    (0..most).map(move |step| first + (home.wrapping_add(step) & (size - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    struct Table(Vec<[AtomicU64; 2]>);

    impl Table {
        fn new() -> Self {
            Self((0..CONSUMER_ROWS).map(|_| [AtomicU64::new(0), AtomicU64::new(0)]).collect())
        }

        fn count(&self, consumer: u32, route: u32, source: Source, status: u16) -> bool {
            count(&|at: u32| self.0.get(at as usize).map(<[_; 2]>::as_slice), consumer, route, source, status)
        }

        fn read(&self) -> Vec<ByConsumer> {
            let words = |row: &[AtomicU64; 2]| row.each_ref().map(|word| word.load(Ordering::Relaxed));
            self.0[..COMBINATIONS as usize].iter().map(words).filter_map(|[key, count]| read(key, count)).collect()
        }
    }

    #[test]
    fn each_answer_is_counted_under_its_consumer() {
        let table = Table::new();
        for (consumer, route, source, status) in [
            (1, 0, Source::Service, 200),
            (1, 0, Source::Service, 200),
            (1, 0, Source::Exit, 429),
            (2, 8_388_607, Source::Service, 599),
        ] {
            assert!(table.count(consumer, route, source, status));
        }
        let mut found: Vec<_> =
            table.read().iter().map(|one| (one.consumer, one.route, one.source as u8, one.status, one.count)).collect();
        found.sort_unstable();
        assert_eq!(found, [(1, 0, 0, 200, 2), (1, 0, 1, 429, 1), (2, 8_388_607, 0, 599, 1)]);
        assert!(!table.count(1, 1 << ROUTE_BITS, Source::Service, 200), "a route without room is left to the caller");
    }

    #[test]
    fn consumers_above_the_bound_share_one_label() {
        let table = Table::new();
        for consumer in 1..=3_000 {
            assert!(table.count(consumer, 7, Source::Service, 200));
        }
        let found: BTreeMap<u32, u64> = table.read().iter().map(|one| (one.consumer, one.count)).collect();
        assert_eq!(found.len(), 1_001);
        assert_eq!((found[&1], found[&1_000], found[&OTHER]), (1, 1, 2_000));
        assert!(table.count(1_000, 7, Source::Service, 200) && table.count(1_001, 7, Source::Service, 200));
        let found: BTreeMap<u32, u64> = table.read().iter().map(|one| (one.consumer, one.count)).collect();
        assert_eq!((found[&1_000], found[&OTHER]), (2, 2_001));
    }

    #[test]
    fn workers_at_once_lose_no_answer_and_keep_the_bound() {
        let table = Table::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..20_000).for_each(|n| assert!(table.count(n % 1_500, n % 7, Source::Service, 200))));
            }
        });
        let found = table.read();
        assert_eq!(found.iter().map(|one| one.count).sum::<u64>(), 80_000);
        let consumers: std::collections::BTreeSet<u32> = found.iter().map(|one| one.consumer).collect();
        assert!(consumers.len() <= 1_001);
    }

    #[test]
    fn a_table_without_room_leaves_answers_to_the_caller() {
        let table = Table::new();
        let taken = (0..COMBINATIONS * 2).filter(|n| table.count(n % 900, n / 900, Source::Service, 200)).count();
        let counted: u64 = table.read().iter().map(|one| one.count).sum();
        assert_eq!(counted, taken as u64);
        assert!(taken < 2 * COMBINATIONS as usize);
    }
}
