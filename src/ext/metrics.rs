//! The metrics page, as the control process reads it: the words of all workers, and the state of their slots.
//!
//! In: the shared columns, the labels of routes. Out: Prometheus text. Names and layout are the core's (`telemetry`).

use aigw_core::telemetry::series::{SERIES, SERIES_WORDS, SeriesRow, TIER_WORDS, TIERS};
use aigw_core::telemetry::{self, GATEWAY, GATEWAY_WORDS, ROUTE_WORDS, ROUTES, RouteRow, WORKERS};
use aigw_io::cells::{Control, SlotState};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The highest numbers of a policy, by which its counters are laid out.
#[derive(Clone, Copy, Default)]
pub(crate) struct Highest {
    route: u32,
    series: u32,
    tier: u32,
}

/// Make room for the counters of numbers up to these.
pub(crate) fn prepare(cells: &Control, highest: Highest) -> std::io::Result<()> {
    let rows = |highest: u32, words: u32| (u64::from(highest) + 1) * u64::from(words);
    cells.ensure_column(ROUTES.0, 1, rows(highest.route, ROUTE_WORDS), ROUTES.1)?;
    cells.ensure_column(SERIES.0, 1, rows(highest.series, SERIES_WORDS), SERIES.1)?;
    cells.ensure_column(TIERS.0, 1, rows(highest.tier, TIER_WORDS), TIERS.1)?;
    cells.ensure_column(GATEWAY.0, 1, u64::from(GATEWAY_WORDS), GATEWAY.1)
}

/// The highest numbers of a policy. One that cannot be read is refused by who publishes it.
pub(crate) fn highest(policy: &[u8]) -> Highest {
    #[derive(Deserialize)]
    struct Policy {
        routes: Vec<Numbered>,
        tiers: Vec<Numbered>,
        series: Vec<(u32, u32, u32)>,
    }
    #[derive(Deserialize)]
    struct Numbered {
        n: u32,
    }
    let most = |all: &[Numbered]| all.iter().map(|one| one.n).max().unwrap_or(0);
    serde_json::from_slice::<Policy>(policy).map_or_else(
        |_| Highest::default(),
        |policy| Highest {
            route: most(&policy.routes),
            tier: most(&policy.tiers),
            series: policy.series.iter().map(|one| one.2).max().unwrap_or(0),
        },
    )
}

/// The page. `routes`: route n -> its label, its service's; `series`: row -> tier, model; `tiers`: tier n -> name.
pub(crate) fn page(
    cells: &Control,
    routes: &BTreeMap<u32, (String, String)>,
    series: &BTreeMap<u32, (String, String)>,
    tiers: &BTreeMap<u32, String>,
) -> std::io::Result<String> {
    let read = |n: u32| cells.run(ROUTES.0, n.saturating_mul(ROUTE_WORDS), ROUTE_WORDS);
    let nowhere = read(0);
    // A route that was never called has nothing to tell: thousands of them would make the page too large to be read.
    let words: Vec<(&str, &str, Vec<u64>)> = routes
        .iter()
        .map(|(n, (route, service))| (route.as_str(), service.as_str(), read(*n)))
        .filter(|(_, _, words)| words.iter().any(|word| *word > 0))
        .collect();
    let mut rows = vec![RouteRow { route: "", service: "", words: &nowhere }];
    rows.extend(words.iter().map(|(route, service, words)| RouteRow { route, service, words }));
    let mut page = telemetry::render(&rows, &cells.run(GATEWAY.0, 0, GATEWAY_WORDS));
    let run = |column: u32, n: u32, words: u32| cells.run(column, n.saturating_mul(words), words);
    let words: Vec<_> = series
        .iter()
        .map(|(row, (tier, model))| (tier.as_str(), model.as_str(), run(SERIES.0, *row, SERIES_WORDS)))
        .collect();
    let rows: Vec<_> = words.iter().map(|(tier, model, words)| SeriesRow { tier, model, words }).collect();
    let tiers: Vec<_> = tiers.iter().map(|(n, name)| (name.as_str(), run(TIERS.0, *n, TIER_WORDS))).collect();
    telemetry::series::render(&mut page, &rows, &tiers);
    let slots = cells.slots()?;
    for (at, metric) in WORKERS.iter().enumerate() {
        telemetry::head(&mut page, metric);
        for slot in &slots {
            let value = [u64::from(slot.state == SlotState::Ready), slot.in_flight, u64::from(slot.inline)][at];
            let _ = writeln!(page, "{}{{slot=\"{}\"}} {value}", metric.name, slot.slot);
        }
    }
    Ok(page)
}
