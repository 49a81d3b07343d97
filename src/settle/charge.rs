//! The budgets of one call of a model: the amounts that it holds, and those that it has used.
//!
//! In: the reservation that the call was admitted with and the prices in force then; at the end the usage that the upstream
//! reported, or the tokens that the gateway counted. Out: the amounts to take on the way, and [`Settled`]: the amounts that count,
//! their source, and whether they exceed the reservation. It reads and changes no counter.

use std::sync::OnceLock;

use crate::admit::reserve::Reservation;
use crate::limits::{self, Amounts};
use crate::price::{Classes, Prices, ServiceTier};
use crate::telemetry::budgets::BudgetReport;

/// Counts the input of a call whose reservation bounds it by its bytes.
pub type CountInput = Box<dyn Fn() -> u64 + Send>;

/// The budgets of one call.
#[derive(Default)]
pub struct Charge {
    prices: Option<Prices>,
    held: Reservation,
    /// No budget counts it: it holds nothing, and is counted for the ledger alone.
    unheld: bool,
    /// Extensions that it got.
    granted: u32,
    /// Extensions that it did not get.
    refused: u32,
    /// Output tokens of the last note.
    noted: Option<u64>,
    /// `None`: the reservation has the count.
    count: Option<CountInput>,
    /// The count, once it was needed.
    input: OnceLock<u64>,
}

/// The source of the amounts that a call was settled to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageSource {
    /// The upstream's usage.
    Reported,
    /// The gateway's count: the upstream reported nothing, or no output where text had passed.
    Counted,
    /// The reservation: the call ended before anything could be counted.
    Reserved,
}

impl UsageSource {
    /// Its name in the access log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reported => "provider",
            Self::Counted => "counted",
            Self::Reserved => "reserved",
        }
    }
}

/// The end of a call's budgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The amounts that count.
    pub amounts: Amounts,
    /// The tokens by class.
    pub classes: Classes,
    /// Their source.
    pub source: UsageSource,
    /// Nano-dollars; `None` where the tier has no prices.
    pub price: Option<u64>,
    /// An amount exceeds the one that was held.
    pub overrun: bool,
    /// The upstream reported less output than had passed by the gateway's count.
    pub understated: bool,
}

/// The facts about a call's tokens at its end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known {
    /// The usage that the upstream reported.
    pub usage: Option<Classes>,
    /// Output tokens that the gateway counted.
    pub counted: Option<u64>,
    /// The service tier that the answer names.
    pub service: ServiceTier,
    /// The answer is an error, which has used only the tokens that it reports.
    pub error: bool,
    /// The stream ended before its time: the usage may be one of an earlier chunk.
    pub cut: bool,
    /// The counted tokens are a bound of those that passed.
    pub bound: bool,
}

impl Settled {
    /// The amounts for the limits.
    pub fn used(&self) -> limits::Usage {
        limits::Usage { amounts: self.amounts, ..limits::Usage::ANSWERED }
    }
}

impl Known {
    /// Whether the usage has less output than passed. A stream's end before its time explains that, and so does a bound.
    fn understates(&self) -> bool {
        let less = |usage: Classes| Some(usage.all_output()) < self.counted;
        !self.cut && !self.bound && self.usage.is_some_and(less)
    }
}

impl std::fmt::Debug for Charge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Charge").field("prices", &self.prices).field("held", &self.held).finish_non_exhaustive()
    }
}

impl Charge {
    /// A call with this reservation, at these prices.
    pub fn new(prices: Option<Prices>, held: Reservation) -> Self {
        Self { prices, held, ..Self::default() }
    }

    /// A call that no budget counts. `most_output`: its output caps; 0 where nothing caps it. It is worth that much where nobody learns what
    /// the upstream made.
    pub fn without_budget(prices: Option<Prices>, most_output: u64) -> Self {
        let spend = prices.as_ref().map_or(0, |prices| prices.bound(0, 0));
        let held = Reservation { output: most_output, spend, unbounded: true, ..Reservation::default() };
        Self { prices, held, unheld: true, ..Self::default() }
    }

    /// The price of the amounts that it holds; `None` where the tier has no prices.
    pub fn price_held(&self) -> Option<u64> {
        self.prices.as_ref().map(|_| self.held.spend)
    }

    /// Whether a budget counts it.
    pub fn has_budget(&self) -> bool {
        !self.unheld
    }

    /// The same call, whose input is counted when nobody reports it. `None`: its reservation has the count.
    #[must_use]
    pub fn counting(self, count: Option<CountInput>) -> Self {
        Self { count, ..self }
    }

    /// The tokens of the input, counted. At most those of the reservation, where there is one.
    fn input(&self) -> u64 {
        let most = if self.unheld { u64::MAX } else { self.held.input };
        let counted = || self.count.as_ref().map_or(self.held.input, |count| count().min(most));
        *self.input.get_or_init(counted)
    }

    /// The input where nobody learns what the upstream made: that of the reservation, without one the count.
    fn most_input(&self) -> u64 {
        if self.unheld { self.input() } else { self.held.input }
    }

    /// The amounts that it holds.
    pub fn held(&self) -> Amounts {
        if self.unheld { Amounts::NONE } else { self.held.amounts() }
    }

    /// The amounts of so many more output tokens.
    pub fn step(&self, tokens: u64) -> Amounts {
        let spend = self.bound(self.held.output.saturating_add(tokens)).saturating_sub(self.held.spend);
        Amounts { input_tokens: 0, output_tokens: tokens, spend }
    }

    /// Amounts were taken on the way.
    pub fn took(&mut self, more: &Amounts) {
        self.granted = self.granted.saturating_add(1);
        self.held.output = self.held.output.saturating_add(more.output_tokens);
        self.held.spend = self.held.spend.saturating_add(more.spend);
    }

    /// Counts an input of which the reservation has a bound only, at most once. Returns the amounts that the call does not need,
    /// or `None` where it needs all of them.
    pub fn tighten(&mut self) -> Option<Amounts> {
        self.count.as_ref()?;
        let before = self.held();
        self.held.input = self.input();
        self.count = None;
        self.held.spend = self.bound(self.held.output);
        let less = before.minus(&self.held());
        (less != Amounts::NONE).then_some(less)
    }

    /// A budget had no more.
    pub fn refused(&mut self) {
        self.refused = self.refused.saturating_add(1);
    }

    /// The report for the metrics. `settled`: `None` where the amounts went back. `cut`: a budget ended the stream.
    pub fn report(&self, settled: Option<&Settled>, cut: bool) -> BudgetReport {
        let (reserved, granted, refused) = (self.held(), self.granted, self.refused);
        let overrun = settled.is_some_and(|settled| settled.overrun);
        let understated = settled.is_some_and(|settled| settled.understated);
        let settled = settled.map_or(Amounts::NONE, |settled| settled.amounts);
        BudgetReport { reserved, settled, overrun, understated, granted, refused, cut }
    }

    /// Notes that so many output tokens of a stream have passed. Returns its amounts.
    pub fn note(&mut self, output: u64) -> Amounts {
        self.noted = Some(output);
        self.so_far(output)
    }

    /// The amounts of the last note, by the reservation as it is now.
    pub fn noted(&self) -> Option<Amounts> {
        self.noted.map(|output| self.so_far(output))
    }

    /// The amounts of a stream of which so many output tokens have passed.
    pub fn so_far(&self, output: u64) -> Amounts {
        Amounts { input_tokens: self.held.input, output_tokens: output, spend: self.bound(output) }
    }

    /// The end of a call that an upstream answered.
    pub fn settle(&self, known: Known) -> Settled {
        let (classes, source) = self.classes(known);
        let (input, output) = (classes.all_input(), classes.all_output());
        let price = self.prices.as_ref().map(|prices| match source {
            UsageSource::Reserved if self.unheld => prices.bound(input, output),
            UsageSource::Reserved => self.held.spend,
            UsageSource::Reported | UsageSource::Counted => prices.of(&classes),
        });
        let amounts = Amounts { input_tokens: input, output_tokens: output, spend: price.unwrap_or_default() };
        let held = self.held();
        let overrun = !self.unheld && input > held.input_tokens
            || !self.held.unbounded && (output > held.output_tokens || amounts.spend > held.spend);
        let understated = known.understates();
        Settled { amounts, classes, source, price, overrun, understated }
    }

    fn classes(&self, known: Known) -> (Classes, UsageSource) {
        let Known { usage, counted, service, error, cut, .. } = known;
        let passed = counted.unwrap_or_default();
        // Each answer that is no error has a prompt, so nobody believes a usage of zeros.
        let (classes, source) = match usage.filter(|usage| error && passed == 0 || !usage.is_empty()) {
            Some(usage) if usage.all_output() > 0 || passed == 0 => {
                let unsaid = if cut { passed.saturating_sub(usage.all_output()) } else { 0 };
                (Classes { output: usage.output + unsaid, ..usage }, UsageSource::Reported)
            }
            None if error && passed == 0 => (Classes::default(), UsageSource::Reported),
            // The usage has no output, though text has passed.
            Some(usage) => (Classes { output: passed, reasoning: 0, ..usage }, UsageSource::Counted),
            None => {
                let (input, output, source) = counted.map_or_else(
                    || (self.most_input(), self.held.output, UsageSource::Reserved),
                    |output| (self.input(), output, UsageSource::Counted),
                );
                (Classes { input, output, ..Classes::default() }, source)
            }
        };
        (classes.served_in(service), source)
    }

    fn bound(&self, output: u64) -> u64 {
        self.prices.as_ref().map_or(0, |prices| prices.bound(self.held.input, output))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::price::PRICES;
    use proptest::prelude::*;

    fn charge(input: u64, output: u64) -> Charge {
        Charge::new(
            Some(PRICES),
            Reservation { input, output, spend: PRICES.bound(input, output), ..Reservation::default() },
        )
    }

    #[allow(clippy::unnecessary_wraps)] // as the field has it
    fn usage(input: u64, output: u64) -> Option<Classes> {
        Some(Classes { input, output, ..Classes::default() })
    }

    #[test]
    fn usage_replaces_the_reservation_in_every_class() {
        let told =
            Classes { input: 12, cached_input: 100, cache_write: 8, output: 16, reasoning: 5, ..Classes::default() };
        let settled = charge(200, 100).settle(Known { usage: Some(told), ..Known::default() });
        let spend = 100_000 + 12 * 300 + 100 * 150 + 8 * 375 + 16 * 1200 + 5 * 600;
        assert_eq!(settled.amounts, Amounts { input_tokens: 120, output_tokens: 21, spend });
        assert_eq!((settled.source, settled.price, settled.overrun), (UsageSource::Reported, Some(spend), false));
    }

    #[test]
    fn usage_beyond_the_reservation_is_an_overrun() {
        for (input, output, overrun) in [(10, 100, false), (11, 100, true), (10, 101, true), (1 << 40, 1 << 40, true)] {
            let settled = charge(10, 100).settle(Known { usage: usage(input, output), ..Known::default() });
            assert_eq!(settled.overrun, overrun, "{input} {output}");
            assert_eq!(settled.amounts.output_tokens, output);
        }
    }

    #[test]
    fn no_text_that_passed_is_free() {
        let charge = charge(10, 100);
        for (usage, counted, cut, output, source) in [
            (None, Some(7), false, 7, UsageSource::Counted),
            (usage(10, 0), Some(7), false, 7, UsageSource::Counted),
            (usage(0, 0), Some(7), false, 7, UsageSource::Counted),
            (usage(10, 3), Some(7), false, 3, UsageSource::Reported),
            (usage(10, 3), Some(7), true, 7, UsageSource::Reported),
            (usage(10, 9), Some(7), true, 9, UsageSource::Reported),
            (None, None, false, 100, UsageSource::Reserved),
            (usage(0, 0), None, false, 100, UsageSource::Reserved),
            (None, Some(0), true, 0, UsageSource::Counted),
            (usage(0, 0), Some(0), false, 0, UsageSource::Counted),
        ] {
            let settled = charge.settle(Known { usage, counted, cut, ..Known::default() });
            let got = (settled.amounts.input_tokens, settled.amounts.output_tokens, settled.source);
            assert_eq!(got, (10, output, source), "{usage:?} {counted:?} {cut}");
        }
    }

    #[test]
    fn input_is_counted_when_nobody_reports_it() {
        let charge = charge(200, 100).counting(Some(Box::new(|| 9)));
        let settled = charge.settle(Known { counted: Some(7), ..Known::default() });
        assert_eq!((settled.amounts.input_tokens, settled.amounts.output_tokens), (9, 7));
        assert_eq!(settled.price, Some(PRICES.of(&Classes { input: 9, output: 7, ..Classes::default() })));
        let settled = charge.settle(Known::default());
        assert_eq!((settled.amounts.input_tokens, settled.source), (200, UsageSource::Reserved));
    }

    #[test]
    fn call_without_budget_is_worth_its_input_and_its_cap_where_nobody_learns_more() {
        let counting = |most| Charge::without_budget(Some(PRICES), most).counting(Some(Box::new(|| 9)));
        for (most, known, output, source) in [
            (50, Known::default(), 50, UsageSource::Reserved),
            (0, Known::default(), 0, UsageSource::Reserved),
            (50, Known { counted: Some(7), ..Known::default() }, 7, UsageSource::Counted),
        ] {
            let charge = counting(most);
            assert_eq!(charge.held(), Amounts::NONE, "it holds nothing");
            let settled = charge.settle(known);
            let price = match source {
                UsageSource::Reserved => PRICES.bound(9, output),
                _ => PRICES.of(&Classes { input: 9, output, ..Classes::default() }),
            };
            assert_eq!((settled.classes.input, settled.classes.output, settled.source), (9, output, source));
            assert_eq!((settled.price, settled.overrun), (Some(price), false));
        }
        let error = Known { error: true, ..Known::default() };
        assert_eq!(counting(50).settle(error).amounts.output_tokens, 0, "an error costs no tokens");
    }

    #[test]
    fn input_is_counted_once_and_frees_the_rest_of_its_bound() {
        let counts = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counted = std::sync::Arc::clone(&counts);
        let count = move || {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            9
        };
        let mut charge = charge(200, 100).counting(Some(Box::new(count)));
        let spend = PRICES.bound(200, 100) - PRICES.bound(9, 100);
        assert_eq!(charge.tighten(), Some(Amounts { input_tokens: 191, output_tokens: 0, spend }));
        assert_eq!(charge.tighten(), None);
        let held = Amounts { input_tokens: 9, output_tokens: 100, spend: PRICES.bound(9, 100) };
        assert_eq!((charge.held(), charge.so_far(100)), (held, held));
        let settled = charge.settle(Known { counted: Some(100), ..Known::default() });
        assert_eq!((settled.amounts.input_tokens, settled.overrun), (9, false));
        assert_eq!(counts.load(std::sync::atomic::Ordering::Relaxed), 1);
        let mut large =
            Charge::new(None, Reservation { input: 5, ..Reservation::default() }).counting(Some(Box::new(|| 6)));
        assert_eq!((large.tighten(), large.held().input_tokens), (None, 5), "never above the bound");
    }

    #[test]
    fn call_of_a_tier_without_prices_has_no_price() {
        let charge = Charge::new(None, Reservation { input: 10, output: 20, ..Reservation::default() });
        let settled = charge.settle(Known { usage: usage(5, 6), ..Known::default() });
        assert_eq!((settled.price, settled.amounts.spend, settled.overrun), (None, 0, false));
        assert_eq!(charge.step(5), Amounts { output_tokens: 5, ..Amounts::default() });
    }

    proptest! {
        #[test]
        fn steps_hold_exactly_the_bound(input in 0_u64..5_000, first in 0_u64..600, steps in prop::collection::vec(1_u64..600, 0..20)) {
            let mut charge = charge(input, first);
            for tokens in steps {
                let more = charge.step(tokens);
                charge.took(&more);
            }
            let held = charge.held();
            prop_assert_eq!(held.spend, PRICES.bound(input, held.output_tokens));
            let settled = charge.settle(Known { usage: usage(input, held.output_tokens), ..Known::default() });
            prop_assert!(!settled.overrun && settled.amounts.spend <= held.spend);
        }
    }
}
