//! `GET /v1/limits`: where the caller stands, read from the same cells that refuse it.
//!
//! In: a tier and its caller. Out: JSON, one row per limit (per model for limits by model); limits by address have no row of
//! the caller's own. used = settled, reserved = held by requests in flight, remaining = limit - both. It takes nothing. The
//! other workers' journals are opened when first asked for.

use crate::cells::{CellReading, Control, StoreId};
use aigw_core::limits::{Rate, rate};
use aigw_core::snapshot::{Offer, Subject, Tier, TierLimit};
use aigw_core::units::Moment;
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use aigw_core::admit::CallerRows;

pub(crate) struct Standing {
    dir: PathBuf,
    store: StoreId,
    cells: OnceLock<Control>,
}

#[derive(Serialize)]
struct Row<'a> {
    meter: &'static str,
    per: String,
    scope: String,
    mode: &'static str,
    limit: u32,
    used: u32,
    reserved: u32,
    remaining: u32,
    resets_at: u32,
    source: &'a str,
}

#[derive(Serialize)]
struct Page<'a> {
    object: &'static str,
    tier: &'a str,
    data: Vec<Row<'a>>,
}

impl Standing {
    pub(crate) fn new(dir: &Path, store: StoreId) -> Self {
        Self { dir: dir.to_owned(), store, cells: OnceLock::new() }
    }

    fn cells(&self) -> io::Result<&Control> {
        if let Some(cells) = self.cells.get() {
            return Ok(cells);
        }
        let opened = Control::open(&self.dir, self.store)?;
        Ok(self.cells.get_or_init(|| opened))
    }

    /// The body of the answer.
    pub(crate) fn of(&self, offer: &Offer, tier: &Tier, caller: CallerRows, now: Moment) -> io::Result<Vec<u8>> {
        let cells = self.cells()?;
        let mut places: Vec<(&TierLimit, String, (u32, u32))> = Vec::new();
        for limit in &tier.limits {
            let row = if limit.subject == Subject::Credential { caller.credential } else { caller.consumer };
            match limit.subject {
                Subject::Ip => {}
                Subject::Model => places.extend(
                    (offer.models.iter().zip(&limit.columns))
                        .map(|(model, column)| (limit, format!("model {}", model.name), (*column, row))),
                ),
                Subject::Consumer | Subject::Credential => {
                    let column = limit.columns.first().copied().unwrap_or(0);
                    places.push((limit, limit.subject.name().to_owned(), (column, row)));
                }
            }
        }
        let refs: Vec<_> = places.iter().map(|place| place.2).collect();
        let source = format!("tier {}", tier.name);
        let rows = places.iter().zip(cells.read_cells(&refs)?).map(|((limit, scope, at), reading)| {
            let (most, used, reserved, resets_at) = match limit.rate {
                Some(rate) => bucket(rate, cells.read_bucket(*at, rate, now), now),
                None => window(limit, reading, now),
            };
            Row {
                meter: "requests",
                per: limit.per.to_string(),
                scope: scope.clone(),
                mode: if limit.shadow { "shadow" } else { "enforce" },
                limit: most,
                used,
                reserved,
                remaining: most.saturating_sub(used).saturating_sub(reserved),
                resets_at,
                source: &source,
            }
        });
        let page = Page { object: "list", tier: &tier.name, data: rows.collect() };
        serde_json::to_vec(&page).map_err(io::Error::other)
    }
}

/// Limit, used, reserved, end of the window.
fn window(limit: &TierLimit, reading: CellReading, now: Moment) -> (u32, u32, u32, u32) {
    let CellReading { count, held, end } = reading;
    if end <= now.seconds() {
        return (limit.limit, 0, 0, limit.per.window(now.seconds()).end.0);
    }
    (limit.limit, count.saturating_sub(held), held, end.0)
}

/// Limit, used, reserved, when the bucket is full again.
fn bucket(rate: Rate, reading: Option<rate::Reading>, now: Moment) -> (u32, u32, u32, u32) {
    let Some(rate::Reading { used, full_at, .. }) = reading.filter(|reading| reading.used > 0) else {
        return (rate.burst(), 0, 0, now.seconds().0);
    };
    (rate.burst(), used, 0, full_at.seconds_up().0)
}
