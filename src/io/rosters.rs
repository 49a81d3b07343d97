//! Rows of metrics by tier and model, and by tier and upstream: the control process makes them before workers claim them.
//!
//! In: the pairs that may be called. Out: columns with free rows, and the end of the rows in their rosters. A row is made with its
//! blocks on disk, so of all pairs only as many rows are made as are in use, and some that are free for pairs called next.

use std::collections::BTreeSet;
use std::io;

use aigw_core::snapshot::file::Highest;
use aigw_core::telemetry::budgets::{BUDGET_WORDS, BUDGETS};
use aigw_core::telemetry::calls::{CALL_WORDS, CALLS, OPERATIONS};
use aigw_core::telemetry::failures::{FAILURE_WORDS, FAILURES};
use aigw_core::telemetry::roster::{self, END, FORGOTTEN, OF_CALLS, OF_SERIES};
use aigw_core::telemetry::series::{SERIES, SERIES_WORDS};

use crate::cells::ControlCells;

/// Rows that are free at most: more pairs than two workers call for the first time between two looks.
const FREE: u32 = 1_024;

/// The number and the key of a column, and the words of one row.
type Sized = ((u32, &'static str), u32);
const BY_MODEL: &[Sized] = &[(SERIES, SERIES_WORDS), (FAILURES, FAILURE_WORDS), (BUDGETS, BUDGET_WORDS)];
const BY_UPSTREAM: &[Sized] = &[(CALLS, OPERATIONS * CALL_WORDS)];

/// The number of a tier, that of its model or upstream, and the row of an earlier version that counts them.
pub type Numbered = (u32, u32, u32);

/// Whether the rosters are in use: rows of an earlier version are adopted before.
pub fn is_open(cells: &ControlCells) -> bool {
    [OF_SERIES, OF_CALLS].iter().all(|roster| word(cells, roster.0, END) > 0)
}

/// Takes over the rows that an earlier version numbered in the store. Rows between them, of entities that nobody knows, stay unused.
pub fn adopt(cells: &ControlCells, series: &[Numbered], calls: &[Numbered]) -> io::Result<()> {
    for (roster, rows) in [(OF_SERIES, series), (OF_CALLS, calls)] {
        let highest = rows.iter().map(|(_, _, row)| *row).max().unwrap_or(0);
        cells.ensure_column(roster.0, 1, u64::from(highest) + 1, roster.1)?;
        (1..=highest).for_each(|row| cells.set(roster.0, row, FORGOTTEN));
        for &(tier, other, row) in rows {
            cells.set(roster.0, row, roster::key(tier, other));
        }
    }
    Ok(())
}

/// Makes free rows, if less than half of those that should be free are left.
pub fn make_room(cells: &ControlCells, pairs: Highest) -> io::Result<()> {
    make(cells, OF_SERIES, BY_MODEL, pairs.series)?;
    make(cells, OF_CALLS, BY_UPSTREAM, pairs.calls)
}

fn make(cells: &ControlCells, roster: (u32, &str), columns: &[Sized], pairs: u32) -> io::Result<()> {
    let (free, end) = (pairs.min(FREE), word(cells, roster.0, END));
    let next = u64::from(used(cells, roster.0)) + 1;
    if end > 0 && end >= next + u64::from(free.div_ceil(2)) {
        return Ok(());
    }
    let end = next + u64::from(free);
    for &((column, key), words) in columns {
        cells.ensure_column(column, 1, end * u64::from(words), key)?;
    }
    cells.ensure_column(roster.0, 1, end, roster.1)?;
    cells.set(roster.0, END, end);
    Ok(())
}

/// Row, tier and model or upstream of each row in use.
pub(crate) fn rows(cells: &ControlCells, roster: u32) -> Vec<(u32, u32, u32)> {
    let mut seen = BTreeSet::new();
    let keys = cells.run(roster, 1, used(cells, roster));
    let keyed = (1..).zip(keys).filter(|(_, key)| *key != FORGOTTEN && seen.insert(*key));
    keyed.map(|(row, key)| (row, roster::read(key))).map(|(row, (tier, other))| (row, tier, other)).collect()
}

/// The last row in use: rows are claimed in order.
fn used(cells: &ControlCells, roster: u32) -> u32 {
    let made = u32::try_from(word(cells, roster, END)).unwrap_or(u32::MAX);
    let (mut low, mut high) = (0, made.saturating_sub(1));
    // The adopted rows of a roster that is not in use yet.
    while made == 0 && word(cells, roster, high + 1) > 0 {
        high += 1;
    }
    while low < high {
        let middle = high - (high - low) / 2;
        if word(cells, roster, middle) > 0 { low = middle } else { high = middle - 1 }
    }
    low
}

fn word(cells: &ControlCells, roster: u32, row: u32) -> u64 {
    cells.run(roster, row, 1).first().copied().unwrap_or(0)
}
