//! One world: its processes, its disk, its store and its clock. Every step, every fault and every amount is drawn from the seed.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aigw_core::admit::Admitter;
use aigw_core::cells::journal::{State, open_permits};
use aigw_core::entry::Entry;
use aigw_core::limits::Demand;
use aigw_core::units::{Moment, RequestId};
use aigw_io::ledger::{CONTROL_SLOT, LedgerWriter, SegmentName, Segments, Syncer};

use crate::books::{Books, place, priced};
use crate::call::{Ask, CHUNK, Call, Context};
use crate::control::{Control, Left, Shelf};
use crate::disk::VirtualDisk;
use crate::drawn::Drawn;
use crate::memory::{CONSUMERS, Memory, Pages, SLOTS};
use crate::plan::{Plan, Planted};
use crate::space::Space;
use crate::store::Store;

const STORE: [u64; 2] = [11, 22];
const START: u64 = 1_700_000_003_000_000_000;
/// Calls that a worker has in flight.
const CALLS: usize = 5;

/// A worker process.
pub struct Worker {
    pub life: u64,
    pub space: Arc<Space>,
    admitter: Admitter<Space>,
    syncer: Syncer,
    pub calls: Vec<Call>,
}

/// The owner of a slot.
pub enum Slot {
    Free,
    Running(Box<Worker>),
    Left(Left),
}

/// One world.
pub struct World<'a> {
    pub memory: &'a Memory,
    pub disk: Arc<VirtualDisk>,
    pub segments: Segments,
    pub plan: Plan,
    planted: Option<Planted>,
    dir: &'a Path,
    dice: Drawn,
    now: u64,
    began: Instant,
    pub slots: [Slot; SLOTS],
    pub control: Option<Control>,
    pub store: Store,
    pub books: Books,
    pages: (Pages, [u64; SLOTS]),
    requests: u64,
}

impl<'a> World<'a> {
    pub fn new(seed: u64, planted: Option<Planted>, aloud: bool, memory: &'a Memory, dir: &'a Path) -> Self {
        memory.clear();
        let mut dice = Drawn(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d | 1);
        // The first numbers of near seeds are near each other.
        (0..4).for_each(|_| {
            dice.below(2);
        });
        let plan = Plan::draw(&mut dice);
        if aloud {
            println!("{plan:?}");
        }
        Self {
            memory,
            disk: Arc::new(VirtualDisk::new(dir, planted == Some(Planted::SkippedSync))),
            segments: Segments::open(dir, STORE),
            plan,
            planted,
            dir,
            dice,
            now: START,
            began: Instant::now(),
            slots: [Slot::Free, Slot::Free, Slot::Free],
            control: None,
            store: Store::default(),
            books: Books { aloud, ..Books::default() },
            pages: (memory.pages(), [0; SLOTS]),
            requests: 0,
        }
    }

    /// Lives to its end and checks every promise. The error names the first that was broken.
    pub fn run(mut self) -> Result<(), String> {
        for _ in 0..self.plan.steps {
            self.step()?;
            self.check()?;
        }
        self.rest()?;
        self.check()?;
        self.check_end()
    }

    fn step(&mut self) -> Result<(), String> {
        self.start_some();
        match self.dice.below(100) {
            0..58 => self.work(),
            58..70 => self.sync(),
            70..84 => self.compact()?,
            84..90 => self.reclaim()?,
            90..92 => self.write_back(),
            92..96 => {
                let nanos = self.dice.below(6_000_000_000);
                self.pass(nanos);
            }
            _ => self.pass(250_000_000),
        }
        self.pass(1_000_000);
        self.fault();
        Ok(())
    }

    fn pass(&mut self, nanos: u64) {
        self.now += nanos;
    }

    pub fn moment(&self) -> Moment {
        Moment(self.now)
    }

    fn instant(&self) -> Instant {
        self.began + Duration::from_nanos(self.now - START)
    }

    fn chance(&mut self, in_1000: u64) -> bool {
        self.dice.below(1_000) < in_1000
    }

    /// Starts processes that are missing, not always at once.
    fn start_some(&mut self) {
        if self.control.is_none() && self.dice.below(4) == 0 {
            self.start_control();
        }
        let running = self.slots.iter().filter(|slot| matches!(slot, Slot::Running(_))).count();
        if running < self.plan.workers && self.dice.below(3) == 0 {
            self.start_worker();
        }
    }

    fn writer(&mut self, slot: u8) -> (SegmentName, Arc<LedgerWriter>, Syncer) {
        // No two processes start in one instant.
        self.now += 1;
        let first = SegmentName { life: self.now, slot, number: 0 };
        let (writer, mut syncer) = LedgerWriter::by_hand(self.disk.clone(), self.dir, STORE, slot, first.life);
        syncer.work(self.instant());
        (first, writer, syncer)
    }

    pub fn start_control(&mut self) {
        let (_, writer, syncer) = self.writer(CONTROL_SLOT);
        let _ = self.segments.sweep();
        self.control = Some(Control::new(self.memory, writer, syncer));
    }

    fn start_worker(&mut self) {
        let Some(slot) = self.slots.iter().position(|slot| matches!(slot, Slot::Free)) else { return };
        let (first, writer, syncer) = self.writer(u8::try_from(slot).unwrap());
        let space = Arc::new(Space::new(self.memory, first, writer, Arc::clone(&self.disk)));
        let admitter = Admitter::new(Arc::clone(&space));
        self.slots[slot] =
            Slot::Running(Box::new(Worker { life: first.life, space, admitter, syncer, calls: Vec::new() }));
    }

    /// A step of a worker, which may be its last.
    fn work(&mut self) {
        let slot = self.dice.index(SLOTS);
        if !matches!(self.slots[slot], Slot::Running(_)) {
            return;
        }
        let dies = self.chance(self.plan.kills);
        let within = dies && self.dice.below(10) < self.plan.within;
        let doom = i64::try_from(self.dice.below(24)).unwrap();
        if let Slot::Running(worker) = &self.slots[slot]
            && within
        {
            worker.space.life.doom(doom);
        }
        let which = self.dice.index(CALLS);
        if matches!(&self.slots[slot], Slot::Running(worker) if which >= worker.calls.len()) {
            self.begin(slot);
        } else {
            self.advance(slot, which);
        }
        if dies {
            self.kill(slot);
        }
    }

    fn begin(&mut self, slot: usize) {
        self.requests += 1;
        let consumer = u32::try_from(self.dice.index(CONSUMERS)).unwrap();
        let stream = self.dice.below(2) == 0;
        let output = if stream { CHUNK } else { 1 + self.dice.below(200) };
        let held = priced(1 + self.dice.below(120), output);
        let attempts = 1 + u32::try_from(self.dice.below(3)).unwrap();
        let request = RequestId([7, self.requests]);
        let ask = Ask { request, consumer, stream, attempts, held };
        let (mut checks, now) = (self.plan.checks(consumer), self.moment());
        let demand = Demand { body: 100, bound: held, shadow: held, rows: attempts };
        let Slot::Running(worker) = &mut self.slots[slot] else { return };
        if let Ok(permit) = worker.admitter.take(&mut checks, &demand, now, request) {
            self.books.tell(|| format!("worker {slot} admits {ask:?} at {now:?}"));
            let seen = self.books.seen(request);
            (seen.consumer, seen.admitted) = (consumer, now);
            worker.calls.push(Call::new(permit, checks, &ask, now));
        }
    }

    fn advance(&mut self, slot: usize, which: usize) {
        let Slot::Running(worker) = &mut self.slots[slot] else { return };
        let Some(call) = worker.calls.get_mut(which) else { return };
        let over = call.advance(&mut Context {
            plan: &self.plan,
            planted: self.planted,
            memory: self.memory,
            books: &mut self.books,
            dice: &mut self.dice,
            now: Moment(self.now),
            space: &worker.space,
            slot,
        });
        if worker.space.is_dead() {
            let amounts = call.held.plus(&priced(0, CHUNK));
            self.books.doubt(&call.checks, &amounts, [call.admitted, Moment(self.now)]);
        }
        note_rows(&mut self.books, worker, slot);
        if over {
            let Slot::Running(worker) = &mut self.slots[slot] else { return };
            drop(worker.calls.swap_remove(which));
        }
    }

    /// A worker ends without a word.
    pub fn kill(&mut self, slot: usize) {
        let slot_number = u8::try_from(slot).unwrap();
        if let Slot::Running(worker) = &mut self.slots[slot] {
            self.books.tell(|| format!("worker {slot} dies, within: {}", worker.space.is_dead()));
            note_synced(&mut self.books, worker);
            worker.space.life.doom(-1);
            let left = Left { slot: slot_number, life: worker.life, same_boot: true };
            self.slots[slot] = Slot::Left(left);
        }
    }

    /// A worker ends in order: its calls are over, and its entries on disk.
    pub fn close(&mut self, slot: usize) -> Result<(), String> {
        if let Slot::Running(worker) = &mut self.slots[slot] {
            worker.syncer.finish().map_err(|error| error.to_string())?;
        }
        self.kill(slot);
        Ok(())
    }

    fn sync(&mut self) {
        let (now, which) = (self.instant(), self.dice.index(SLOTS + 1));
        match (self.slots.get_mut(which), &mut self.control) {
            (Some(Slot::Running(worker)), _) => drop(worker.syncer.work(now)),
            (None, Some(control)) => drop(control.syncer.work(now)),
            _ => {}
        }
    }

    pub fn sync_all(&mut self) {
        self.pass(300_000_000);
        let now = self.instant();
        for slot in &mut self.slots {
            if let Slot::Running(worker) = slot {
                worker.syncer.work(now);
            }
        }
        if let Some(control) = &mut self.control {
            control.syncer.work(now);
        }
    }

    pub fn advance_all(&mut self) {
        for slot in 0..SLOTS {
            let count = if let Slot::Running(worker) = &self.slots[slot] { worker.calls.len() } else { 0 };
            (0..count).rev().for_each(|which| self.advance(slot, which));
        }
    }

    pub fn compact(&mut self) -> Result<(), String> {
        let Some(control) = &mut self.control else { return Ok(()) };
        let has_permits = |slot: u8, life: u64| {
            let is_its = |left: &Left| slot == CONTROL_SLOT || (left.slot, left.life) == (slot, life);
            self.slots.iter().any(|other| matches!(other, Slot::Left(left) if is_its(left)))
        };
        control.compact(&mut Shelf {
            segments: &self.segments,
            store: &mut self.store,
            disk: &self.disk,
            books: &self.books,
            dice: &mut self.dice,
            planted: self.planted,
            has_permits: &has_permits,
        })
    }

    /// The control process ends the permits of a dead worker, and may die on the way.
    fn reclaim(&mut self) -> Result<(), String> {
        let slot = self.dice.index(SLOTS);
        let doomed = self.plan.within > 0 && self.chance(self.plan.control_kills * 8);
        let doom = i64::try_from(self.dice.below(12)).unwrap();
        if let Some(control) = &self.control
            && doomed
        {
            control.life.doom(doom);
        }
        self.reclaim_slot(slot)?;
        if doomed {
            self.control = None;
        }
        Ok(())
    }

    pub fn reclaim_slot(&mut self, slot: usize) -> Result<(), String> {
        let (Slot::Left(left), Some(control)) = (&self.slots[slot], &self.control) else { return Ok(()) };
        let ring = self.memory.ring(slot);
        note_doubts(&mut self.books, &self.plan, ring);
        let found = control.reclaim(ring, *left, &self.segments, Moment(self.now))?;
        self.books.tell(|| format!("{left:?} is reclaimed: {found:?}"));
        if found.is_some_and(|found| found.waiting == 0) && !control.life.is_over() {
            self.slots[slot] = Slot::Free;
        }
        Ok(())
    }

    /// The kernel writes the pages of counters and journals back.
    fn write_back(&mut self) {
        self.pages = (self.memory.pages(), self.lives());
    }

    fn lives(&self) -> [u64; SLOTS] {
        [0, 1, 2].map(|slot: usize| match &self.slots[slot] {
            Slot::Running(worker) => worker.life,
            Slot::Left(left) => left.life,
            Slot::Free => 0,
        })
    }

    fn fault(&mut self) {
        if self.chance(self.plan.control_kills) {
            self.control = None;
        }
        if self.chance(self.plan.falls) {
            self.fall();
        }
        if self.chance(self.plan.power) {
            self.lose_power();
        }
        if self.chance(self.plan.disk) {
            self.books.tell(|| "the disk fails, or is well again".into());
            match self.dice.below(5) {
                0 => self.disk.fill(true),
                1 | 2 => self.disk.fail_sync(),
                3 => self.disk.fail_next(1 + u32::try_from(self.dice.below(3)).unwrap()),
                _ => self.disk.heal(),
            }
        }
    }

    /// All processes are killed.
    fn fall(&mut self) {
        (0..SLOTS).for_each(|slot| self.kill(slot));
        self.control = None;
    }

    fn lose_power(&mut self) {
        self.fall();
        for seen in self.books.calls.values_mut() {
            let is_safe = seen.synced || seen.row.is_none_or(|(id, _)| self.store.has(id));
            seen.may_be_lost |= !is_safe || seen.row.is_none();
        }
        self.books.tell(|| "the power goes".into());
        self.books.lost_power = true;
        self.disk.lose_power(&mut self.dice);
        let lives = self.lives();
        let same = [0, 1, 2].map(|slot: usize| lives[slot] != 0 && lives[slot] == self.pages.1[slot]);
        let dice = &mut self.dice;
        self.memory.lose(&self.pages.0, same, || dice.below(3) == 0);
        for slot in &mut self.slots {
            if let Slot::Left(left) = slot {
                left.same_boot = false;
            }
        }
    }
}

/// Notes the entries that a worker has appended.
fn note_rows(books: &mut Books, worker: &Worker, slot: usize) {
    for (position, row) in worker.space.take_appended() {
        let entry = Entry::decode(&row);
        let name = SegmentName { life: worker.life, slot: u8::try_from(slot).unwrap(), number: position.segment };
        if entry.last {
            books.seen(entry.request).row = Some(((name, position.sequence), entry));
        }
    }
}

/// Notes which entries of a worker are on disk.
fn note_synced(books: &mut Books, worker: &Worker) {
    for seen in books.calls.values_mut() {
        if let Some(((name, sequence), _)) = seen.row
            && name.life == worker.life
        {
            let position = aigw_io::ledger::Position { segment: name.number, sequence };
            seen.synced |= worker.space.writer.is_synced(position);
        }
    }
}

/// Notes the amounts of a dead worker's permits that nobody can know.
fn note_doubts(books: &mut Books, plan: &Plan, ring: &[std::sync::atomic::AtomicU64]) {
    for open in open_permits(ring) {
        let seen = books.calls.get(&open.request.0).cloned().unwrap_or_default();
        let checks = plan.checks(seen.consumer);
        for line in &open.held {
            let own =
                checks.iter().filter_map(|check| place(check, seen.admitted)).find(|own| own.0 == line.cell.column);
            let is_sure =
                matches!(open.state, State::Held | State::Sent) && own.is_some_and(|own| own.2 == line.window);
            if !is_sure {
                *books.above.entry((line.cell.column, line.cell.row, line.window)).or_default() += line.amount;
            }
        }
    }
}
