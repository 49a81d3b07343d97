//! A worker's counters, ring and end of the ledger, of which a doomed worker changes only so much.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use aigw_core::cells::heap::HeapLock;
use aigw_core::cells::{CellRef, Cells, CounterSpace, OpenArea, ROW, Ring, Rows, Words, journal};
use aigw_core::entry::record::{RecordKind, encode};
use aigw_io::ledger::{LedgerWriter, Position, SegmentName};

use crate::disk::{PLACES, VirtualDisk};
use crate::memory::{Life, Memory, Mortal, WIDTHS, row};

/// A row and its place.
type Placed = (Position, [u64; ROW]);

/// The rows that a worker has appended.
struct Appended {
    /// Since the last look.
    rows: Vec<Placed>,
    /// The place behind the last of all.
    end: Position,
}

/// The shared words of one worker.
pub struct Space {
    columns: Vec<Mortal>,
    ring: Ring<Mortal>,
    area: OpenArea<Mortal, HeapLock>,
    lane: u64,
    pub life: Arc<Life>,
    pub writer: Arc<LedgerWriter>,
    disk: Arc<VirtualDisk>,
    /// First segment of its life and slot.
    first: SegmentName,
    appended: Mutex<Appended>,
}

impl Space {
    pub fn new(memory: &Memory, first: SegmentName, writer: Arc<LedgerWriter>, disk: Arc<VirtualDisk>) -> Self {
        let life = Life::new();
        let slot = usize::from(first.slot);
        Self {
            columns: memory.columns_for(&life),
            ring: Ring::new(memory.ring_for(slot, &life), 0).unwrap(),
            area: OpenArea::new(memory.area_for(&life), HeapLock::default()).unwrap(),
            lane: slot as u64,
            life,
            writer,
            disk,
            first,
            appended: Mutex::new(Appended { rows: Vec::new(), end: Position { segment: 0, sequence: 0 } }),
        }
    }

    pub fn is_dead(&self) -> bool {
        self.life.is_over()
    }

    /// The rows that were appended since the last look.
    pub fn take_appended(&self) -> Vec<Placed> {
        std::mem::take(&mut self.appended.lock().unwrap().rows)
    }

    /// The worker dies while it copies a record into its place.
    fn tear(&self, row: &[u64; ROW]) {
        let Position { segment, sequence } = self.appended.lock().unwrap().end;
        if sequence < PLACES {
            let words = encode(RecordKind::Entry, sequence, row);
            let copied = 1 + usize::try_from(row[3] % 31).unwrap();
            self.disk.tear(SegmentName { number: segment, ..self.first }, sequence, &words[1..=copied]);
        }
    }
}

impl Cells for Space {
    type Words = Mortal;
    type Lock = HeapLock;

    fn dense(&self, column: u32, row: u32) -> Option<&AtomicU64> {
        self.row(column, row)?.first()
    }

    fn row(&self, column: u32, consumer: u32) -> Option<&[AtomicU64]> {
        let column = column as usize;
        (column < WIDTHS.len()).then(|| row(self.columns[column].words(), column, consumer as usize))
    }

    fn column(&self, _: u32) -> &[AtomicU64] {
        &[]
    }

    fn lane(&self) -> u64 {
        self.lane
    }

    fn open(&self) -> &OpenArea<Mortal, HeapLock> {
        &self.area
    }
}

impl Rows for Space {
    fn claim(&self, rows: u32) -> bool {
        self.writer.reserve(rows)
    }

    fn release(&self, rows: u32) {
        self.writer.release(rows);
    }

    fn append(&self, row: &[u64; ROW]) -> bool {
        match self.life.touch() {
            -1 => self.tear(row),
            ..-1 => {}
            _ => {
                let Ok(position) = self.writer.append(RecordKind::Entry, row) else { return false };
                let mut appended = self.appended.lock().unwrap();
                appended.rows.push((position, *row));
                appended.end = Position { sequence: position.sequence + 1, ..position };
            }
        }
        true
    }
}

impl CounterSpace for Space {
    fn ring(&self) -> &Ring<Mortal> {
        &self.ring
    }

    fn held(&self, cell: CellRef, window: u64) -> u64 {
        journal::held(self.ring.words(), cell, window)
    }
}
