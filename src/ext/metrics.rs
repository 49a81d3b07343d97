//! The metrics page, as the control process reads it: the words of all workers, and the state of their slots.
//!
//! In: the shared columns, the labels of routes. Out: Prometheus text. Names and layout are the core's (`telemetry`).

use aigw_core::telemetry::{self, GATEWAY, GATEWAY_WORDS, ROUTE_WORDS, ROUTES, RouteRow, WORKERS};
use aigw_io::cells::{Control, SlotState};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Make room for the counters of routes up to `highest`.
pub(crate) fn prepare(cells: &Control, highest: u32) -> std::io::Result<()> {
    let rows = (u64::from(highest) + 1) * u64::from(ROUTE_WORDS);
    cells.ensure_column(ROUTES.0, 1, rows, ROUTES.1)?;
    cells.ensure_column(GATEWAY.0, 1, u64::from(GATEWAY_WORDS), GATEWAY.1)
}

/// The highest route number of a policy; 0 for none. A policy that cannot be read is refused by who publishes it.
pub(crate) fn highest_route(policy: &[u8]) -> u32 {
    #[derive(Deserialize)]
    struct Policy {
        routes: Vec<Route>,
    }
    #[derive(Deserialize)]
    struct Route {
        n: u32,
    }
    serde_json::from_slice::<Policy>(policy)
        .map_or(0, |policy| policy.routes.iter().map(|route| route.n).max().unwrap_or(0))
}

/// The page. `routes`: route n -> its label, its service's.
pub(crate) fn page(cells: &Control, routes: &BTreeMap<u32, (String, String)>) -> std::io::Result<String> {
    let read = |n: u32| cells.run(ROUTES.0, n.saturating_mul(ROUTE_WORDS), ROUTE_WORDS);
    let nowhere = read(0);
    let words: Vec<(&str, &str, Vec<u64>)> =
        routes.iter().map(|(n, (route, service))| (route.as_str(), service.as_str(), read(*n))).collect();
    let mut rows = vec![RouteRow { route: "", service: "", words: &nowhere }];
    rows.extend(words.iter().map(|(route, service, words)| RouteRow { route, service, words }));
    let mut page = telemetry::render(&rows, &cells.run(GATEWAY.0, 0, GATEWAY_WORDS));
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
