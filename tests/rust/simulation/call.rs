//! A call on its way through a worker, in the order of the product's stages (`src/surface/call.rs`): taken, drafted, sent, answered, its
//! entry appended, its counters settled, its last byte sent. Each step is one of the simulation's.

use aigw_core::admit::{Check, Permit};
use aigw_core::cells::CellRef;
use aigw_core::cells::budget::BudgetCell;
use aigw_core::cells::journal::{TakenAmount, open_permits};
use aigw_core::entry::{Ended, Entry, TokenSource};
use aigw_core::limits::{Amounts, Usage};
use aigw_core::price::Classes;
use aigw_core::units::{Moment, RequestId, UnixSeconds};
use aigw_io::ledger::Position;

use crate::books::{Books, Seen, amount, place, priced};
use crate::drawn::Drawn;
use crate::memory::Memory;
use crate::plan::{Plan, Planted};
use crate::space::Space;

/// Output tokens by which a stream's reservation grows.
pub const CHUNK: u64 = 48;
/// Tokens that a stream may have counted beyond its journal.
pub const BEHIND: u64 = 64;

/// The parts of a world that a step of a call may use.
pub struct Context<'a> {
    pub plan: &'a Plan,
    pub planted: Option<Planted>,
    pub memory: &'a Memory,
    pub books: &'a mut Books,
    pub dice: &'a mut Drawn,
    pub now: Moment,
    pub space: &'a Space,
    pub slot: usize,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Held,
    Sent,
    Asked,
    Streaming,
    Ending(Entry),
    /// Planted: the client has the last byte already.
    Late(Entry),
    Recorded(Entry),
    Settled(Entry),
}

/// A call in flight.
pub struct Call {
    permit: Option<Permit<Space>>,
    pub request: RequestId,
    pub checks: Vec<Check>,
    pub admitted: Moment,
    consumer: u32,
    stream: bool,
    attempts: u32,
    attempt: u32,
    pub held: Amounts,
    used: Amounts,
    noted: u64,
    /// By check: amounts that earlier windows gave.
    earlier: Vec<u64>,
    phase: Phase,
}

impl Call {
    /// A call that was admitted now.
    pub fn new(permit: Permit<Space>, checks: Vec<Check>, ask: &Ask, now: Moment) -> Self {
        Self {
            permit: Some(permit),
            request: ask.request,
            earlier: vec![0; checks.len()],
            checks,
            admitted: now,
            consumer: ask.consumer,
            stream: ask.stream,
            attempts: ask.attempts,
            attempt: 1,
            held: ask.held,
            used: Amounts::NONE,
            noted: 0,
            phase: Phase::Held,
        }
    }

    /// The next step. True: the call is over.
    pub fn advance(&mut self, ctx: &mut Context<'_>) -> bool {
        ctx.books.tell(|| format!("  call {:?}: {:?}, holds {:?}", self.request.0[1], self.phase, self.held));
        match self.phase {
            Phase::Held => self.send(ctx),
            Phase::Sent => {
                self.phase = Phase::Asked;
                false
            }
            Phase::Asked => self.answered(ctx),
            Phase::Streaming => self.piece(ctx),
            Phase::Ending(entry) if ctx.planted == Some(Planted::LateEntry) => self.early_byte(&entry, ctx),
            Phase::Ending(entry) | Phase::Late(entry) => self.record(&entry, ctx),
            Phase::Recorded(entry) => self.settle(&entry, ctx),
            Phase::Settled(entry) => self.last_byte(&entry, ctx),
        }
    }

    fn send(&mut self, ctx: &mut Context<'_>) -> bool {
        let reserved = Entry { counted: true, source: TokenSource::Reserved, ..self.priced(&self.held) };
        let Some(permit) = &mut self.permit else { return true };
        match ctx.dice.below(10) {
            0 => return self.leave(ctx),
            1 | 2 => {
                let less = priced(self.held.input_tokens / 2, 0);
                permit.shrink(&less);
                self.held = self.held.minus(&less);
            }
            _ => {
                permit.mark_sent(&reserved.draft());
                self.phase = Phase::Sent;
            }
        }
        false
    }

    /// The call ends without an answer, and all goes back.
    fn leave(&mut self, ctx: &Context<'_>) -> bool {
        let permit = self.permit.take();
        if ctx.planted == Some(Planted::LostRelease) {
            std::mem::forget(permit);
        }
        true
    }

    fn answered(&mut self, ctx: &mut Context<'_>) -> bool {
        match ctx.dice.below(12) {
            0 => return self.leave(ctx),
            1 | 2 if self.attempt < self.attempts => {
                see(ctx, self.request, |seen| seen.refused += 1);
                let refused =
                    Entry { status: 503, ended: Ended::UpstreamError, last: false, ..self.priced(&Amounts::NONE) };
                self.append(&refused, ctx);
                self.attempt += 1;
                self.phase = Phase::Sent;
            }
            1 => {
                see(ctx, self.request, |seen| seen.begun = true);
                let failed = Entry { status: 500, ended: Ended::UpstreamError, ..self.priced(&Amounts::NONE) };
                self.phase = Phase::Ending(failed);
            }
            _ if self.stream => {
                let input = self.held.input_tokens;
                see(ctx, self.request, |seen| (seen.begun, seen.served) = (true, (input, 0)));
                self.used = priced(input, 0);
                self.note();
                self.phase = Phase::Streaming;
            }
            _ => {
                let cap = self.held.output_tokens;
                let overruns = ctx.plan.overruns && ctx.dice.below(5) == 0;
                let output = if overruns { cap + 1 + ctx.dice.below(50) } else { ctx.dice.below(cap + 1) };
                let input = 1 + ctx.dice.below(self.held.input_tokens.max(1));
                self.used = priced(input.min(self.held.input_tokens), output);
                let served = (self.used.input_tokens, output);
                see(ctx, self.request, |seen| (seen.begun, seen.served) = (true, served));
                self.end(Ended::Completed, TokenSource::Provider);
            }
        }
        false
    }

    fn piece(&mut self, ctx: &mut Context<'_>) -> bool {
        match ctx.dice.below(14) {
            0 | 1 => self.end(Ended::Completed, TokenSource::Provider),
            2 => self.end(Ended::ClientCut, TokenSource::Counted),
            3 => self.end(Ended::UpstreamCut, TokenSource::Counted),
            4 => self.note(),
            _ => {
                let more = 1 + ctx.dice.below(CHUNK);
                let output = self.used.output_tokens + more;
                if output > self.held.output_tokens && !self.extend(ctx) {
                    self.end(Ended::LimitCut, TokenSource::Counted);
                    return false;
                }
                if output - self.noted > BEHIND {
                    self.note();
                }
                self.used = priced(self.used.input_tokens, output);
                see(ctx, self.request, |seen| seen.served.1 = output);
            }
        }
        false
    }

    /// Reserves one chunk more.
    fn extend(&mut self, ctx: &mut Context<'_>) -> bool {
        let Some(permit) = &mut self.permit else { return false };
        let before = lines(ctx, self.request);
        let more = priced(0, CHUNK);
        if permit.extend(&self.checks, &more, ctx.now).is_err() {
            return false;
        }
        self.held = self.held.plus(&more);
        let after = lines(ctx, self.request);
        for (n, (before, after)) in before.iter().zip(&after).enumerate() {
            self.earlier[n] += if before.window == after.window { 0 } else { before.amount };
        }
        true
    }

    fn note(&mut self) {
        if let Some(permit) = &mut self.permit {
            permit.progress(&self.used);
            self.noted = self.used.output_tokens;
        }
    }

    fn end(&mut self, ended: Ended, source: TokenSource) {
        let overrun = self.used.output_tokens > self.held.output_tokens;
        let entry = Entry { status: 200, ended, source, counted: true, overrun, ..self.priced(&self.used) };
        self.phase = Phase::Ending(entry);
    }

    /// Planted: the last byte goes before the entry is written.
    fn early_byte(&mut self, entry: &Entry, ctx: &mut Context<'_>) -> bool {
        let acknowledges = acknowledges(entry);
        see(ctx, self.request, |seen| seen.acked |= acknowledges);
        self.phase = Phase::Late(*entry);
        false
    }

    fn record(&mut self, entry: &Entry, ctx: &mut Context<'_>) -> bool {
        if entry.overrun {
            for (column, consumer, window) in self.checks.iter().filter_map(|check| place(check, self.admitted)) {
                let over = amount(column, &self.used).saturating_sub(amount(column, &self.held));
                *ctx.books.overrun.entry((column, consumer, window)).or_default() += over;
            }
        }
        self.append(entry, ctx);
        self.phase = Phase::Recorded(*entry);
        false
    }

    fn append(&mut self, entry: &Entry, ctx: &mut Context<'_>) {
        if let Some(permit) = &mut self.permit
            && !permit.record(&entry.encode())
        {
            ctx.books.blame(|| format!("call {:?} has no room for its entry", self.request));
        }
    }

    fn settle(&mut self, entry: &Entry, ctx: &mut Context<'_>) -> bool {
        let Some(permit) = self.permit.take() else { return true };
        let held = lines(ctx, self.request);
        if entry.counted {
            permit.settle(&entry.used());
        } else {
            permit.give_back();
        }
        if ctx.planted == Some(Planted::DoubleSettle) && entry.counted && !ctx.space.is_dead() {
            for line in &held {
                correct_again(ctx, line, &entry.used());
            }
        }
        let moved = held.iter().zip(&self.earlier).filter(|(_, earlier)| **earlier > 0 && !ctx.space.is_dead());
        for (line, earlier) in moved {
            let CellRef { column, row, .. } = line.cell;
            let part = amount(column, &entry.used().amounts).saturating_sub(*earlier);
            *ctx.books.moved.entry((column, row, line.window)).or_default() += part;
        }
        self.phase = Phase::Settled(*entry);
        false
    }

    fn last_byte(&mut self, entry: &Entry, ctx: &mut Context<'_>) -> bool {
        if ctx.space.is_dead() {
            return true;
        }
        let seen = ctx.books.seen(self.request);
        let Some((id, _)) = seen.row else {
            ctx.books.blame(|| format!("call {:?} sends its last byte without an entry", self.request));
            return true;
        };
        if ctx.plan.strict && !ctx.space.writer.is_synced(Position { segment: id.0.number, sequence: id.1 }) {
            return false;
        }
        seen.acked |= acknowledges(entry);
        true
    }

    /// A last entry with these amounts.
    fn priced(&self, amounts: &Amounts) -> Entry {
        let tokens = Classes { input: amounts.input_tokens, output: amounts.output_tokens, ..Classes::default() };
        Entry {
            admitted_at: self.admitted,
            request: self.request,
            consumer: self.consumer,
            model: 1,
            attempt: u8::try_from(self.attempt).unwrap(),
            stream: self.stream,
            last: true,
            tokens,
            price: Some(amounts.spend),
            ..Entry::default()
        }
    }
}

/// A call that asks for admission.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub request: RequestId,
    pub consumer: u32,
    pub stream: bool,
    pub attempts: u32,
    pub held: Amounts,
}

/// Whether a client gets the last byte of a call that ends so.
fn acknowledges(entry: &Entry) -> bool {
    matches!(entry.ended, Ended::Completed | Ended::LimitCut | Ended::UpstreamError)
}

/// Notes something that others see, unless the worker is dead.
fn see<R>(ctx: &mut Context<'_>, request: RequestId, note: impl FnOnce(&mut Seen) -> R) {
    if !ctx.space.is_dead() {
        note(ctx.books.seen(request));
    }
}

/// The amounts that a call's journal names.
fn lines(ctx: &Context<'_>, request: RequestId) -> Vec<TakenAmount> {
    let open = open_permits(ctx.memory.ring(ctx.slot)).find(|open| open.request == request);
    open.map_or_else(Vec::new, |open| open.held)
}

/// Replaces the amount taken by the amount used, once more.
fn correct_again(ctx: &Context<'_>, line: &TakenAmount, used: &Usage) {
    let CellRef { column, row, .. } = line.cell;
    if let (0..3, Some(cell)) = (column, BudgetCell::new(ctx.memory.row(column as usize, row as usize))) {
        let used = amount(column, &used.amounts);
        cell.give_back(UnixSeconds::saturating(line.window), line.amount.saturating_sub(used));
        cell.charge(UnixSeconds::saturating(line.window), used.saturating_sub(line.amount));
    }
}
