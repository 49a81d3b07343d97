//! Sums of entries by the minute of their admission, for the rollups of the ledger.
//!
//! In: the numbers of stored entries, one after the other. Out: a row of sums for each minute and entities; the same by hour, by day and
//! for all consumers together. The ledger's SQL makes the same sums from stored rows, and the audit compares both.

use std::collections::{BTreeMap, HashMap};

use super::Ended;

/// Entities that rows are kept by: consumer, credential, tier, route, model, agent.
pub const KEYS: usize = 6;

/// Sums of a row: requests, counted, errors, input, cached input, cache write, output, reasoning, cost, price, unpriced, overruns.
pub const SUMS: usize = 12;

/// Amounts of an entry: input, cached input, cache write, output, reasoning, price, cost.
pub const AMOUNTS: usize = 7;

/// Seconds of the finest row.
pub const MINUTE: u64 = 60;

const NS: u64 = 1_000_000_000;

/// The numbers of one stored entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // flags of a row
pub struct Summand {
    /// Admission, unix nanoseconds.
    pub admitted_at: u64,
    /// Row numbers of its entities; 0: none.
    pub keys: [u64; KEYS],
    /// Status of the answer.
    pub status: u64,
    /// The number of its [`Ended`].
    pub ended: u64,
    /// It counts in windows.
    pub counted: bool,
    /// It used more than was reserved.
    pub overrun: bool,
    /// Its model had a cost.
    pub costed: bool,
    /// Its amounts.
    pub amounts: [u64; AMOUNTS],
}

/// A row: its start in unix seconds, its entities, its sums.
pub type Row = (u64, [u64; KEYS], [u64; SUMS]);

/// Sums of a batch of entries.
#[derive(Clone, Debug, Default)]
pub struct MinuteSums {
    rows: HashMap<(u64, [u64; KEYS]), [u64; SUMS]>,
}

impl Summand {
    /// 400 and above, or an answer that did not end as it should.
    fn is_error(&self) -> bool {
        let failed = [Ended::UpstreamCut, Ended::UpstreamError, Ended::Crashed];
        self.status >= 400 || failed.into_iter().any(|ended| ended as u64 == self.ended)
    }

    fn sums(&self) -> [u64; SUMS] {
        let [input, cached_input, cache_write, output, reasoning, price, cost] = self.amounts;
        let is_unpriced = self.keys[4] != 0 && !self.costed;
        let (counted, failed) = (u64::from(self.counted), u64::from(self.is_error()));
        let (unpriced, overrun) = (u64::from(is_unpriced), u64::from(self.overrun));
        [1, counted, failed, input, cached_input, cache_write, output, reasoning, cost, price, unpriced, overrun]
    }
}

impl MinuteSums {
    /// Adds an entry.
    pub fn add(&mut self, entry: &Summand) {
        let minute = entry.admitted_at / NS / MINUTE * MINUTE;
        add(self.rows.entry((minute, entry.keys)).or_default(), &entry.sums());
    }

    /// Rows of periods of so many seconds, in the order of the tables' keys, which makes their insertion cheapest.
    pub fn by(&self, seconds: u64) -> Vec<Row> {
        self.grouped(|start, keys| (start / seconds * seconds, keys))
    }

    /// Rows of minutes for all consumers and credentials together: these numbers are 0.
    pub fn totals(&self) -> Vec<Row> {
        self.grouped(|start, [_, _, rest @ ..]| {
            let mut keys = [0; KEYS];
            keys[2..].copy_from_slice(&rest);
            (start, keys)
        })
    }

    fn grouped(&self, key: impl Fn(u64, [u64; KEYS]) -> (u64, [u64; KEYS])) -> Vec<Row> {
        let mut found: BTreeMap<_, [u64; SUMS]> = BTreeMap::new();
        for (&(start, keys), sums) in &self.rows {
            add(found.entry(key(start, keys)).or_default(), sums);
        }
        found.into_iter().map(|((start, keys), sums)| (start, keys, sums)).collect()
    }
}

fn add(to: &mut [u64; SUMS], more: &[u64; SUMS]) {
    for (to, &more) in to.iter_mut().zip(more) {
        *to = to.saturating_add(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn summand() -> impl Strategy<Value = Summand> {
        let of = (0..200_000 * NS, prop::array::uniform6(0..3_u64), 0..600_u64, 0..9_u64);
        (of, prop::array::uniform3(any::<bool>()), prop::array::uniform7(0..1_000_000_u64)).prop_map(
            |((admitted_at, keys, status, ended), [counted, overrun, costed], amounts)| Summand {
                admitted_at,
                keys,
                status,
                ended,
                counted,
                overrun,
                costed,
                amounts,
            },
        )
    }

    fn total(rows: &[Row]) -> [u64; SUMS] {
        let mut sums = [0; SUMS];
        for (.., more) in rows {
            add(&mut sums, more);
        }
        sums
    }

    proptest! {
        #[test]
        fn rows_of_every_period_have_the_sums_of_the_entries(entries in prop::collection::vec(summand(), 0..200)) {
            let mut made = MinuteSums::default();
            for entry in &entries {
                made.add(entry);
            }
            let mut wanted = [0; SUMS];
            for entry in &entries {
                add(&mut wanted, &entry.sums());
            }
            for (seconds, rows) in [(60, made.by(60)), (3600, made.by(3600)), (86400, made.by(86400)), (60, made.totals())] {
                prop_assert_eq!(total(&rows), wanted);
                prop_assert!(rows.windows(2).all(|pair| (pair[0].0, pair[0].1) < (pair[1].0, pair[1].1)));
                prop_assert!(rows.iter().all(|row| row.0 % seconds == 0));
                for entry in &entries {
                    let start = entry.admitted_at / NS / seconds * seconds;
                    prop_assert!(rows.iter().any(|row| row.0 == start && row.1[2..] == entry.keys[2..]));
                }
            }
        }
    }

    #[test]
    fn sums_tell_errors_overruns_and_missing_costs_apart() {
        let plain = Summand {
            admitted_at: 61 * NS,
            keys: [1, 2, 3, 4, 5, 6],
            status: 200,
            ended: 0,
            counted: true,
            overrun: false,
            costed: true,
            amounts: [1, 2, 3, 4, 5, 6, 7],
        };
        assert_eq!(plain.sums(), [1, 1, 0, 1, 2, 3, 4, 5, 7, 6, 0, 0]);
        for (ended, is_error) in [(0, 0), (1, 0), (2, 1), (3, 0), (4, 1), (5, 1), (6, 0)] {
            assert_eq!(Summand { ended, ..plain }.sums()[2], is_error, "{ended}");
        }
        assert_eq!(Summand { status: 400, ..plain }.sums()[2], 1);
        assert_eq!(Summand { costed: false, ..plain }.sums()[10], 1);
        assert_eq!(
            Summand { costed: false, keys: [1, 2, 3, 4, 0, 6], ..plain }.sums()[10],
            0,
            "a call without a model"
        );
        assert_eq!(Summand { overrun: true, counted: false, ..plain }.sums()[1..], [0, 0, 1, 2, 3, 4, 5, 7, 6, 0, 1]);
    }
}
