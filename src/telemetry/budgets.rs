//! Metrics of token and spend budgets: counters of calls that are over, and gauges of calls in flight.
//!
//! In: the amounts that a call reserved and those it was settled to; the start and the end of each call. Out: words, and the
//! page made of them. Counters are in the run of the tier, and in a run for each tier and model. Gauges are in lanes, one for each
//! worker's slot: a lane belongs to one process and is cleared when a new owner starts, so a killed worker leaves nothing in a sum.
//! Calls that a killed worker had in flight are in no counter.

use crate::cells::atomic::Ordering;

use super::metric::{Metric, MetricType};
use super::page::{Sink, Value};
use super::words::{Run, add, get};
use crate::limits::Amounts;

/// The column of budgets by tier and model: its number, above all that limits are given, and its key.
pub const BUDGETS: (u32, &str) = (1_048_565, "metrics:budgets");
/// Words (rows of the column) of one tier and model.
pub const BUDGET_WORDS: u32 = 8;
const OVERRUN: u32 = 0;
const GRANTED: u32 = 1;
const REFUSED: u32 = 2;
const CUT: u32 = 3;
const PRICE: u32 = 4;
const UNDERSTATED: u32 = 5;

/// The column of calls in flight by tier: its number and its key.
pub const IN_FLIGHT: (u32, &str) = (1_048_564, "metrics:in_flight");
/// Lanes of one tier: one for each slot.
pub const LANES: u32 = 64;
/// Words of one lane, as many as a cache line has: calls, then the amounts that they hold.
const LANE: u32 = 8;
/// Words (rows of the column) of one tier.
pub const IN_FLIGHT_WORDS: u32 = LANES * LANE;
const CALLS: u32 = 0;
const HELD: u32 = 1;

/// The first words of a tier's run that count amounts: reserved, settled, and the part of the first that was not used.
const RESERVED: u32 = 72;
const SETTLED: u32 = RESERVED + METERS;
const UNUSED: u32 = SETTLED + METERS;
/// The first word behind them.
pub(super) const END: u32 = UNUSED + METERS;
/// Meters by number, in the words of a tier's limits.
const METER_NAMES: [&str; METERS as usize] = ["tokens", "input_tokens", "output_tokens", "spend"];
const METERS: u32 = 4;

const fn by_meter(name: &'static str, kind: MetricType, help: &'static str) -> Metric {
    Metric { name, kind, help, labels: &["tier", "meter"] }
}

const RESERVED_TOTAL: Metric = by_meter(
    "aigw_reserved_total",
    MetricType::Counter,
    "Amounts that calls had reserved when they ended, extensions included; spend in nano-dollars. Calls that no budget counts have none.",
);
const SETTLED_TOTAL: Metric = by_meter(
    "aigw_settled_total",
    MetricType::Counter,
    "Amounts that the same calls were settled to; 0 for a call that was given back. Spend in nano-dollars.",
);
const OVER_RESERVED: Metric = by_meter(
    "aigw_over_reserved_total",
    MetricType::Counter,
    "Reserved amounts that their calls did not use. Spend in nano-dollars.",
);
const RESERVED_NOW: Metric = by_meter(
    "aigw_reserved_in_flight",
    MetricType::Gauge,
    "Amounts that calls in flight hold now; spend in nano-dollars.",
);
const CALLS_NOW: Metric = Metric {
    name: "aigw_calls_in_flight",
    kind: MetricType::Gauge,
    help: "Admitted requests that have not ended, by the caller's tier.",
    labels: &["tier"],
};
const OVERRUNS: Metric = Metric {
    name: "aigw_overrun_total",
    kind: MetricType::Counter,
    help: "Calls that used more than their budgets had reserved: the upstream ignored its output cap, or hid output. They are charged in full.",
    labels: &["tier", "model"],
};
const UNDERSTATEMENTS: Metric = Metric {
    name: "aigw_understated_total",
    kind: MetricType::Counter,
    help: "Calls whose upstream reported less output than had passed by the count of the model's tokenizer: the usage or the tokenizer is wrong. They are charged by the usage, by the count where it has no output.",
    labels: &["tier", "model"],
};
const EXTENSIONS: Metric = Metric {
    name: "aigw_budget_extensions_total",
    kind: MetricType::Counter,
    help: "Requests of streams for more tokens of their budgets: granted, refused. A stream may go on after a refusal until it needs the tokens.",
    labels: &["tier", "model", "result"],
};
const PRICES: Metric = Metric {
    name: "aigw_price_nanodollars_total",
    kind: MetricType::Counter,
    help: "Prices of calls in nano-dollars, where the tier has prices and the tokens are known; with and without a spend limit.",
    labels: &["tier", "model"],
};

/// The metrics of this page, each once.
pub(super) fn table() -> [Metric; 9] {
    [
        RESERVED_TOTAL,
        SETTLED_TOTAL,
        OVER_RESERVED,
        RESERVED_NOW,
        CALLS_NOW,
        OVERRUNS,
        UNDERSTATEMENTS,
        EXTENSIONS,
        PRICES,
    ]
}

/// The budgets of a call that is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BudgetReport {
    /// The amounts that it held in the end.
    pub reserved: Amounts,
    /// The amounts that it used.
    pub settled: Amounts,
    /// It used more than it held.
    pub overrun: bool,
    /// Its upstream reported less output than had passed.
    pub understated: bool,
    /// Extensions that it got.
    pub granted: u32,
    /// Extensions that it did not get.
    pub refused: u32,
    /// A budget ended its stream.
    pub cut: bool,
}

/// Counts a call in the runs of its tier, and of its tier and model.
pub fn count_call<'a>(tier: &impl Run<'a>, run: &impl Run<'a>, call: &BudgetReport) {
    let (reserved, settled) = (by_number(&call.reserved), by_number(&call.settled));
    for ((at, reserved), settled) in (0..).zip(reserved).zip(settled) {
        add_some(tier, RESERVED + at, reserved);
        add_some(tier, SETTLED + at, settled);
        add_some(tier, UNUSED + at, reserved.saturating_sub(settled));
    }
    for (at, n) in [
        (OVERRUN, call.overrun.into()),
        (UNDERSTATED, call.understated.into()),
        (GRANTED, call.granted),
        (REFUSED, call.refused),
        (CUT, call.cut.into()),
    ] {
        add_some(run, at, n.into());
    }
}

/// Counts the price of a call in the run of its tier and model.
pub fn count_price<'a>(run: &impl Run<'a>, nanodollars: u64) {
    add_some(run, PRICE, nanodollars);
}

/// A call of this tier begins and holds `held`. `lane`: the slot of its worker; `run`: the tier's run of gauges.
pub fn enter<'a>(run: &impl Run<'a>, lane: u64, held: &Amounts) {
    change(run, lane, CALLS, 1);
    hold(run, lane, held);
}

/// A call in flight holds more.
pub fn hold<'a>(run: &impl Run<'a>, lane: u64, more: &Amounts) {
    for (at, amount) in (HELD..).zip(parts(more)) {
        change(run, lane, at, amount);
    }
}

/// A call in flight holds less.
pub fn release<'a>(run: &impl Run<'a>, lane: u64, less: &Amounts) {
    for (at, amount) in (HELD..).zip(parts(less)) {
        change(run, lane, at, amount.wrapping_neg());
    }
}

/// A call ends that held `held`.
pub fn leave<'a>(run: &impl Run<'a>, lane: u64, held: &Amounts) {
    change(run, lane, CALLS, 1_u64.wrapping_neg());
    release(run, lane, held);
}

/// A worker starts in `lane`, or died there. `run`: the whole column.
pub fn forget<'a>(run: &impl Run<'a>, lane: u64) {
    for tier in (0..u32::MAX / IN_FLIGHT_WORDS).map(|n| n * IN_FLIGHT_WORDS) {
        for at in (0..LANE).filter_map(|at| index(lane, at)) {
            let Some(word) = run(tier + at) else { return };
            word.store(0, Ordering::Relaxed);
        }
    }
}

fn change<'a>(run: &impl Run<'a>, lane: u64, at: u32, n: u64) {
    if n != 0
        && let Some(at) = index(lane, at)
    {
        add(run, at, n);
    }
}

/// The word of a lane in a tier's run.
fn index(lane: u64, at: u32) -> Option<u32> {
    u32::try_from(lane).ok().filter(|lane| *lane < LANES).map(|lane| lane * LANE + at)
}

fn add_some<'a>(run: &impl Run<'a>, at: u32, n: u64) {
    if n > 0 {
        add(run, at, n);
    }
}

fn parts(amounts: &Amounts) -> [u64; 3] {
    [amounts.input_tokens, amounts.output_tokens, amounts.spend]
}

/// Amounts by the number of their meter.
fn by_number(amounts: &Amounts) -> [u64; METERS as usize] {
    let [input, output, spend] = parts(amounts);
    [amounts.tokens(), input, output, spend]
}

/// One tier's words, as read, with its label.
#[derive(Debug, Clone)]
pub struct TierRow<'a> {
    /// Tier name.
    pub tier: &'a str,
    /// Its run.
    pub words: &'a [u64],
    /// Its run of gauges.
    pub in_flight: Vec<u64>,
}

/// One tier's and model's words, as read, with their labels.
#[derive(Debug, Clone, Copy)]
pub struct ModelRow<'a> {
    /// Tier name.
    pub tier: &'a str,
    /// Public name of the model.
    pub model: &'a str,
    /// Its run.
    pub words: &'a [u64],
}

/// Streams that a budget ended, in the run of a tier and model.
pub(super) fn cuts(words: &[u64]) -> u64 {
    get(words, CUT)
}

/// Hands the metrics to `sink`: those of amounts for tiers whose calls had budgets, calls in flight for all.
pub fn walk(tiers: &[TierRow<'_>], models: &[ModelRow<'_>], sink: &mut impl Sink) {
    let counted: Vec<_> = tiers.iter().filter(|row| (RESERVED..END).any(|at| get(row.words, at) > 0)).collect();
    for (metric, first) in [(&RESERVED_TOTAL, RESERVED), (&SETTLED_TOTAL, SETTLED), (&OVER_RESERVED, UNUSED)] {
        sink.metric(metric);
        for row in &counted {
            for (at, meter) in (first..).zip(METER_NAMES) {
                sink.sample("", &[("tier", row.tier), ("meter", meter)], Value::Whole(get(row.words, at)));
            }
        }
    }
    gauges(tiers, sink);
    for (metric, at) in [(&OVERRUNS, OVERRUN), (&UNDERSTATEMENTS, UNDERSTATED)] {
        sink.metric(metric);
        for row in models {
            sink.sample("", &[("tier", row.tier), ("model", row.model)], Value::Whole(get(row.words, at)));
        }
    }
    sink.metric(&EXTENSIONS);
    for row in models {
        for (at, result) in [(GRANTED, "granted"), (REFUSED, "refused")] {
            let labels = [("tier", row.tier), ("model", row.model), ("result", result)];
            sink.sample("", &labels, Value::Whole(get(row.words, at)));
        }
    }
    sink.metric(&PRICES);
    for row in models {
        sink.sample("", &[("tier", row.tier), ("model", row.model)], Value::Whole(get(row.words, PRICE)));
    }
}

fn gauges(tiers: &[TierRow<'_>], sink: &mut impl Sink) {
    let sums: Vec<_> = tiers.iter().map(|row| (row.tier, lanes(&row.in_flight))).collect();
    sink.metric(&RESERVED_NOW);
    for (tier, (_, held)) in &sums {
        for (meter, amount) in METER_NAMES.into_iter().zip(by_number(held)) {
            sink.sample("", &[("tier", tier), ("meter", meter)], Value::Whole(amount));
        }
    }
    sink.metric(&CALLS_NOW);
    for (tier, (calls, _)) in &sums {
        sink.sample("", &[("tier", tier)], Value::Whole(*calls));
    }
}

/// The sums of all lanes: calls, and the amounts that they hold.
fn lanes(words: &[u64]) -> (u64, Amounts) {
    let sum = |at: u32| {
        let lanes = words.chunks_exact(LANE as usize);
        // A lane is read word by word while calls end: a sum below 0 shows as 0.
        lanes.fold(0_i64, |sum, lane| sum.saturating_add(get(lane, at).cast_signed())).max(0).cast_unsigned()
    };
    (sum(CALLS), Amounts { input_tokens: sum(HELD), output_tokens: sum(HELD + 1), spend: sum(HELD + 2) })
}

#[cfg(test)]
mod tests {
    use super::super::page::Page;
    use super::super::series::{SHADOW, TIER_WORDS};
    use super::*;
    use std::sync::atomic::AtomicU64;

    fn zeros(n: u32) -> Vec<AtomicU64> {
        (0..n).map(|_| AtomicU64::new(0)).collect()
    }

    fn read(words: &[AtomicU64]) -> Vec<u64> {
        words.iter().map(|word| word.load(Ordering::Relaxed)).collect()
    }

    fn amounts(input_tokens: u64, output_tokens: u64, spend: u64) -> Amounts {
        Amounts { input_tokens, output_tokens, spend }
    }

    fn shown(tier: &[AtomicU64], model: &[AtomicU64], in_flight: &[AtomicU64]) -> String {
        let (words, model, in_flight) = (read(tier), read(model), read(in_flight));
        let mut page = Page::default();
        let models = [ModelRow { tier: "free", model: "m", words: &model }];
        walk(&[TierRow { tier: "free", words: &words, in_flight }], &models, &mut page);
        page.text()
    }

    fn assert_shows(page: &str, lines: &[&str]) {
        for line in lines {
            assert!(page.lines().any(|own| own == *line), "{line} is missing in\n{page}");
        }
    }

    #[test]
    fn counters_show_reserved_settled_and_their_difference() {
        let (tier, model) = (zeros(TIER_WORDS), zeros(BUDGET_WORDS));
        let (tiers, models) = (|at: u32| tier.get(at as usize), |at: u32| model.get(at as usize));
        let used = BudgetReport {
            reserved: amounts(10, 100, 900),
            settled: amounts(8, 20, 300),
            granted: 2,
            refused: 1,
            ..BudgetReport::default()
        };
        count_call(&tiers, &models, &used);
        let overrun = BudgetReport {
            reserved: amounts(10, 10, 90),
            settled: amounts(10, 50, 400),
            overrun: true,
            understated: true,
            ..BudgetReport::default()
        };
        count_call(&tiers, &models, &overrun);
        count_price(&models, 700);
        let page = shown(&tier, &model, &zeros(IN_FLIGHT_WORDS));
        assert_shows(
            &page,
            &[
                "aigw_reserved_total{tier=\"free\",meter=\"tokens\"} 130",
                "aigw_settled_total{tier=\"free\",meter=\"tokens\"} 88",
                "aigw_settled_total{tier=\"free\",meter=\"spend\"} 700",
                "aigw_over_reserved_total{tier=\"free\",meter=\"tokens\"} 82",
                "aigw_over_reserved_total{tier=\"free\",meter=\"input_tokens\"} 2",
                "aigw_over_reserved_total{tier=\"free\",meter=\"spend\"} 600",
                "aigw_price_nanodollars_total{tier=\"free\",model=\"m\"} 700",
                "aigw_overrun_total{tier=\"free\",model=\"m\"} 1",
                "aigw_understated_total{tier=\"free\",model=\"m\"} 1",
                "aigw_budget_extensions_total{tier=\"free\",model=\"m\",result=\"granted\"} 2",
                "aigw_budget_extensions_total{tier=\"free\",model=\"m\",result=\"refused\"} 1",
            ],
        );
    }

    #[test]
    fn gauges_return_to_zero_and_forget_a_killed_worker() {
        let words = zeros(2 * IN_FLIGHT_WORDS);
        let tier = |at: u32| words.get((IN_FLIGHT_WORDS + at) as usize);
        enter(&tier, 0, &amounts(10, 256, 5));
        enter(&tier, 63, &amounts(1, 2, 3));
        hold(&tier, 63, &amounts(0, 256, 4));
        let second =
            |words: &[AtomicU64]| shown(&zeros(TIER_WORDS), &zeros(BUDGET_WORDS), &words[IN_FLIGHT_WORDS as usize..]);
        assert_shows(
            &second(&words),
            &[
                "aigw_calls_in_flight{tier=\"free\"} 2",
                "aigw_reserved_in_flight{tier=\"free\",meter=\"tokens\"} 525",
                "aigw_reserved_in_flight{tier=\"free\",meter=\"spend\"} 12",
            ],
        );
        release(&tier, 0, &amounts(4, 0, 2));
        leave(&tier, 0, &amounts(6, 256, 3));
        forget(&|at: u32| words.get(at as usize), 63);
        assert!(read(&words).iter().all(|word| *word == 0));
        assert_shows(&second(&words), &["aigw_calls_in_flight{tier=\"free\"} 0"]);
    }

    #[test]
    fn words_do_not_overlap_and_fit() {
        const { assert!(SHADOW < RESERVED && END <= TIER_WORDS && UNDERSTATED < BUDGET_WORDS && HELD + 3 <= LANE) };
        let mut page = Page::default();
        let row = TierRow {
            tier: "t",
            words: &[u64::MAX; TIER_WORDS as usize],
            in_flight: vec![u64::MAX; IN_FLIGHT_WORDS as usize],
        };
        walk(&[row], &[ModelRow { tier: "t", model: "m", words: &[u64::MAX; BUDGET_WORDS as usize] }], &mut page);
        assert_shows(&page.text(), &["aigw_calls_in_flight{tier=\"t\"} 0"]);
    }
}
