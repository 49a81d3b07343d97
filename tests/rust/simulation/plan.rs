//! The character of a world: its limits, and how often each fault comes. All of it follows from the seed.

use aigw_core::admit::Check;
use aigw_core::cells::CellKey;
use aigw_core::limits::Limit;
use serde_json::json;

use crate::drawn::Drawn;

/// A fault of the program, planted to prove that the simulation finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// `fdatasync` says that it has synced, and has not.
    SkippedSync,
    /// The counters of a call are corrected twice.
    DoubleSettle,
    /// A call that ends without an answer keeps its permit.
    LostRelease,
    /// The cursor has a transaction of its own.
    CursorApart,
    /// The entry is written behind the last byte.
    LateEntry,
}

/// How often faults come: chances in 1,000 steps.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub limits: [Option<Limit>; 5],
    pub workers: usize,
    pub steps: u64,
    /// A worker is killed.
    pub kills: u64,
    /// Of kills, so many in 10 come in the middle of an operation.
    pub within: u64,
    /// The control process is killed.
    pub control_kills: u64,
    /// All processes are killed.
    pub falls: u64,
    /// The power goes.
    pub power: u64,
    /// The disk is full, or fails.
    pub disk: u64,
    /// Calls wait until their entries are on disk.
    pub strict: bool,
    /// The upstream may use more than its cap.
    pub overruns: bool,
}

impl Plan {
    pub fn draw(dice: &mut Drawn) -> Self {
        let mut sometimes = |one_in: u64, most: u64| if dice.below(one_in) == 0 { 1 + dice.below(most) } else { 0 };
        let (kills, within) = (sometimes(2, 40), sometimes(2, 10).min(9));
        let (control_kills, falls, power, disk) =
            (sometimes(3, 40), sometimes(6, 10), sometimes(4, 10), sometimes(3, 30));
        let (strict, overruns) = (sometimes(2, 1) > 0, sometimes(4, 1) > 0);
        Self {
            limits: limits(dice),
            workers: 1 + dice.index(3),
            steps: 80 + dice.below(160),
            kills,
            within,
            control_kills,
            falls,
            power,
            disk,
            strict,
            overruns,
        }
    }

    /// The checks of a consumer's call.
    pub fn checks(&self, consumer: u32) -> Vec<Check> {
        let columns = self.limits.iter().zip(0..).filter_map(|(limit, column)| Some((column, (*limit)?)));
        columns.map(|(column, limit)| Check::new(limit, CellKey::Dense { column, row: consumer })).collect()
    }
}

fn limits(dice: &mut Drawn) -> [Option<Limit>; 5] {
    let periods = ["7s", "20s", "minute", "hour", "month"];
    let mut limit = |column: usize| {
        if dice.below(4) == 0 {
            return None;
        }
        let per = periods[dice.index(periods.len())];
        let (kind, fields) = match column {
            0 => ("tokens", json!({"amount": 100 + dice.below(3_000), "per": per})),
            1 => ("spend", json!({"amount": 700 + dice.below(20_000), "per": per})),
            2 => ("output_tokens", json!({"amount": 50 + dice.below(2_000), "per": per})),
            3 => ("window", json!({"requests": 1 + dice.below(40), "per": per})),
            _ => ("concurrency", json!({"calls": 1 + dice.below(5)})),
        };
        Some(Limit::build(kind, &fields).unwrap())
    };
    std::array::from_fn(&mut limit)
}
