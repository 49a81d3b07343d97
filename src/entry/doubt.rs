//! The amounts of a permit whose worker died while it took, settled or gave back: nobody knows which counters have them.
//!
//! In: the permit's lines in the journal. Out: the words of records, up to nine lines in each. Such amounts stay counted, so a counter
//! may be above its entries by them: the audit allows for it. Open counters are left out, since no audit reads them.

use crate::cells::ROW;
use crate::cells::journal::TakenAmount;
use crate::units::RequestId;

/// Lines of a record.
const LINES: usize = 9;

/// One amount in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// The call.
    pub request: RequestId,
    /// Column of the counter.
    pub column: u32,
    /// Its row.
    pub row: u32,
    /// The window, by its end in unix seconds; 0 for a bucket.
    pub window: u64,
    /// Most that the counter may have too much.
    pub amount: u64,
}

/// The records of a permit's lines.
pub fn encode(request: RequestId, lines: impl Iterator<Item = TakenAmount>) -> Vec<[u64; ROW]> {
    let lines: Vec<_> = lines.filter(|line| line.amount > 0 && !line.cell.open).collect();
    let record = |lines: &[TakenAmount]| {
        let mut words = [0; ROW];
        words[..3].copy_from_slice(&[request.0[0], request.0[1], lines.len() as u64]);
        for (place, line) in words[3..].chunks_exact_mut(3).zip(lines) {
            let cell = u64::from(line.cell.column) | u64::from(line.cell.row) << 32;
            place.copy_from_slice(&[cell, line.window, line.amount]);
        }
        words
    };
    lines.chunks(LINES).map(record).collect()
}

/// The lines of a record. Every run of words decodes.
#[allow(clippy::cast_possible_truncation)] // halves of words
pub fn decode(words: &[u64; ROW]) -> impl Iterator<Item = Doubt> {
    let [first, second, count, lines @ ..] = words;
    let request = RequestId([*first, *second]);
    let count = usize::try_from(*count).unwrap_or(LINES).min(LINES);
    lines.chunks_exact(3).take(count).map(move |line| Doubt {
        request,
        column: line[0] as u32,
        row: (line[0] >> 32) as u32,
        window: line[1],
        amount: line[2],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::CellRef;

    fn line(column: u32, amount: u64, open: bool) -> TakenAmount {
        TakenAmount { cell: CellRef { kind: 3, open, column, row: 7 }, window: 1_700_000_000, amount }
    }

    #[test]
    fn lines_of_a_permit_come_back_from_its_records() {
        let lines = (1..=11).map(|column| line(column, u64::from(column) << 40, false));
        let left_out = [line(12, 0, false), line(13, 5, true)];
        let request = RequestId([5, u64::MAX]);
        let records = encode(request, lines.chain(left_out));
        assert_eq!(records.len(), 2);
        let found: Vec<_> = records.iter().flat_map(decode).collect();
        let wanted = (1..=11).map(|column| {
            let amount = u64::from(column) << 40;
            Doubt { request, column, row: 7, window: 1_700_000_000, amount }
        });
        assert_eq!(found, wanted.collect::<Vec<_>>());
        assert!(decode(&[u64::MAX; ROW]).count() == LINES);
    }
}
