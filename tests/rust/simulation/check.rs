//! The promises: some hold at every instant, the others when all is at rest.

use std::collections::{BTreeMap, BTreeSet};

use aigw_core::cells::budget::BudgetCell;
use aigw_core::cells::counter;
use aigw_core::cells::journal::open_permits;
use aigw_core::cells::places::Places;
use aigw_core::entry::{Ended, Entry};
use aigw_core::units::RequestId;

use crate::books::{Seen, amount, place};
use crate::call::BEHIND;
use crate::control::Control;
use crate::memory::{CONSUMERS, SLOTS};
use crate::store::minute;
use crate::world::{Slot, World};

/// Rounds in which a world at rest must have done all its work.
const ROUNDS: usize = 400;

impl World<'_> {
    /// The amount that a counter has now, and the end of its window; 0 for calls at once.
    fn counted(&self, column: usize, consumer: usize) -> (u64, u64) {
        let row = self.memory.row(column, consumer);
        match column {
            0..3 => BudgetCell::new(row).map(BudgetCell::read).map_or((0, 0), |seen| (seen.amount, seen.end.0.into())),
            3 => {
                let seen = counter::unpack(row[0].load(std::sync::atomic::Ordering::SeqCst));
                (seen.count.into(), seen.end.0.into())
            }
            _ => (Places::new(row).sum(), 0),
        }
    }

    /// No counter is above its limit, and no promise was broken on the way.
    pub fn check(&mut self) -> Result<(), String> {
        if let Some(fault) = self.books.fault.take() {
            return Err(fault);
        }
        for (column, limit) in self.plan.limits.iter().enumerate() {
            let Some(limit) = limit else { continue };
            for consumer in 0..CONSUMERS {
                let (counted, window) = self.counted(column, consumer);
                let place = (u32::try_from(column).unwrap(), u32::try_from(consumer).unwrap(), window);
                let most = limit.facts().limit + self.books.overrun.get(&place).copied().unwrap_or_default();
                if counted > most {
                    return Err(format!("counter {place:?} has {counted}, its limit is {most}"));
                }
            }
        }
        Ok(())
    }

    /// Brings everything to rest: the disk is well, calls end, processes end, permits are reclaimed, entries are stored.
    pub fn rest(&mut self) -> Result<(), String> {
        self.disk.heal();
        if self.control.is_none() {
            self.start_control();
        }
        let open =
            |world: &Self| world.slots.iter().any(|slot| matches!(slot, Slot::Running(w) if !w.calls.is_empty()));
        for _ in 0..ROUNDS {
            if !open(self) {
                break;
            }
            self.advance_all();
            self.sync_all();
            self.check()?;
        }
        if open(self) {
            return Err("a call does not end".into());
        }
        (0..3).for_each(|_| self.sync_all());
        self.check_idle()?;
        for slot in 0..SLOTS {
            if slot == 0 { self.close(slot)? } else { self.kill(slot) }
        }
        for slot in 0..SLOTS {
            self.reclaim_slot(slot)?;
            if !matches!(self.slots[slot], Slot::Free) {
                return Err(format!("slot {slot} is not free again"));
            }
        }
        self.sync_all();
        // A round may be on its way, over a list of before.
        self.compact_round()?;
        for _ in 0..ROUNDS {
            let before = self.store.cursors.clone();
            self.compact_round()?;
            if self.store.cursors == before {
                return Ok(());
            }
        }
        Err("the compactor does not come to an end".into())
    }

    /// A whole round of the compactor, or the rest of one.
    fn compact_round(&mut self) -> Result<(), String> {
        self.compact()?;
        while !self.control.as_ref().is_some_and(Control::is_idle) {
            self.compact()?;
        }
        Ok(())
    }

    /// Workers without calls hold nothing.
    fn check_idle(&self) -> Result<(), String> {
        for (n, slot) in self.slots.iter().enumerate() {
            let Slot::Running(worker) = slot else { continue };
            let status = worker.space.writer.status();
            if status.reserved > 0 {
                return Err(format!("{} claims on the ledger are left", status.reserved));
            }
            if status.unsynced > 0 || status.lost > 0 {
                return Err(format!("{} records do not reach the disk, {} are lost", status.unsynced, status.lost));
            }
            if let Some(open) = open_permits(self.memory.ring(n)).next() {
                return Err(format!("permit {open:?} is left"));
            }
        }
        Ok(())
    }

    /// The promises about a world at rest.
    pub fn check_end(&self) -> Result<(), String> {
        for slot in 0..SLOTS {
            if let Some(open) = open_permits(self.memory.ring(slot)).next() {
                return Err(format!("permit {open:?} is left by a dead worker"));
            }
        }
        for consumer in 0..CONSUMERS {
            let (places, _) = self.counted(4, consumer);
            if places > 0 {
                return Err(format!("{places} calls are in flight at rest"));
            }
        }
        let last = self.last_entries()?;
        for (request, seen) in &self.books.calls {
            let entry = last.get(request);
            self.books.tell(|| format!("call {request:?} is seen as {seen:?}, its entry is {entry:?}"));
            check_call(RequestId(*request), seen, entry)?;
            let refused = self.store.entries.iter().filter(|(_, entry)| !entry.last && entry.request.0 == *request);
            let refused = u32::try_from(refused.count()).unwrap();
            let is_whole = seen.row.is_some() && !seen.may_be_lost;
            if refused > seen.refused || is_whole && refused < seen.refused {
                return Err(format!("call {request:?} has {refused} entries of attempts: {seen:?}"));
            }
        }
        self.check_rollups()?;
        // After a loss of power counters have the values that reached the disk.
        if self.books.lost_power { Ok(()) } else { self.check_counters(&last) }
    }

    /// The last entry of each call, which it has once.
    fn last_entries(&self) -> Result<BTreeMap<[u64; 2], Entry>, String> {
        let (mut last, mut attempts) = (BTreeMap::new(), BTreeSet::new());
        for (id, entry) in &self.store.entries {
            let is_new = if entry.last {
                last.insert(entry.request.0, *entry).is_none()
            } else {
                attempts.insert((entry.request.0, entry.attempt))
            };
            if !is_new {
                return Err(format!("call {:?} has two entries for one end, the second at {id:?}", entry.request));
            }
        }
        Ok(last)
    }

    fn check_rollups(&self) -> Result<(), String> {
        let mut sums: BTreeMap<(u64, u32), [u64; 3]> = BTreeMap::new();
        for (_, entry) in &self.store.entries {
            let used = entry.used();
            let sum = sums.entry((minute(entry), entry.consumer)).or_default();
            for (sum, more) in sum.iter_mut().zip([used.requests, used.amounts.tokens(), used.amounts.spend]) {
                *sum += more;
            }
        }
        if sums == self.store.rollups { Ok(()) } else { Err("the rollups are not the sums of the entries".into()) }
    }

    /// Counters have the sums of the entries of their windows.
    fn check_counters(&self, last: &BTreeMap<[u64; 2], Entry>) -> Result<(), String> {
        for consumer in 0..u32::try_from(CONSUMERS).unwrap() {
            for check in self.plan.checks(consumer) {
                let Some((column, ..)) = place(&check, self.moment()) else { continue };
                let (counted, window) = self.counted(column as usize, consumer as usize);
                let at = (column, consumer, window);
                let of = |book: &BTreeMap<_, u64>| book.get(&at).copied().unwrap_or_default();
                let own = last.values().filter(|entry| entry.consumer == consumer && entry.counted);
                let own = own.filter(|entry| place(&check, entry.admitted_at) == Some(at));
                let entries: u64 = own.map(|entry| amount(column, &entry.used().amounts)).sum();
                let least = entries + of(&self.books.moved);
                let most = least + of(&self.books.above);
                if counted > most || counted + of(&self.books.overrun) * u64::from(most > least) < least {
                    return Err(format!("counter {at:?} has {counted}, its entries {least} to {most}"));
                }
            }
        }
        Ok(())
    }
}

/// A call that its upstream answered has one last entry, and it is the one that its client was told of.
fn check_call(request: RequestId, seen: &Seen, entry: Option<&Entry>) -> Result<(), String> {
    let Some(entry) = entry else {
        let must = (seen.begun || seen.row.is_some()) && !seen.may_be_lost;
        return if must { Err(format!("call {request:?} has no entry: {seen:?}")) } else { Ok(()) };
    };
    if let Some((_, row)) = seen.row.filter(|_| !seen.may_be_lost)
        && *entry != row
    {
        return Err(format!("the entry of call {request:?} is {entry:?}, its worker had written {row:?}"));
    }
    let (input, output) = seen.served;
    let told = (entry.tokens.all_input(), entry.tokens.all_output());
    if entry.ended != Ended::Crashed && told != (input, output) {
        return Err(format!("the entry of call {request:?} has {told:?} tokens, its upstream {:?}", seen.served));
    }
    if entry.ended == Ended::Crashed && seen.acked && !seen.may_be_lost {
        return Err(format!("call {request:?} ended, and its entry says that it crashed"));
    }
    let is_counted = entry.source == aigw_core::entry::TokenSource::Counted;
    if entry.ended == Ended::Crashed && is_counted && !seen.may_be_lost && (told.1 > output || told.1 + BEHIND < output)
    {
        return Err(format!("the entry of crashed call {request:?} has {} tokens, its upstream {output}", told.1));
    }
    Ok(())
}
