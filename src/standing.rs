//! Where a caller stands: used, reserved and remaining of each limit, from the counters that refuse it.
//!
//! In: the counters of a caller (a tier's, a plugin instance's), the cells, the workers' journals. Out: one row for each
//! counter. used = settled, reserved = held by calls in flight, remaining = limit - both. Workers make `/v1/limits` of the
//! rows, the control process `GET /consumers/{c}/limits`. Limits by address, header or path have no counter of the
//! caller's own and no row. Nothing is taken. The rows are of one moment per counter, not of one moment for all.

use crate::cells::atomic::AtomicU64;
use std::borrow::Cow;
use std::collections::HashMap;

use serde::Serialize;

use crate::cells::{CellKey, CellRef, Cells, journal};
use crate::limits::{Limit, Times};
use crate::snapshot::{LimitBy, Offer, Policy, Profile, Subject, Tier};
use crate::units::Moment;

/// One counter of a limit, and its names for people.
#[derive(Debug, Clone)]
pub struct Counter<'a> {
    limit: Limit,
    column: u32,
    row: u32,
    shadow: bool,
    owner: Owner<'a>,
    source: Cow<'a, str>,
}

impl Counter<'_> {
    /// A counter of `limit` in this row, without names.
    pub fn new(limit: Limit, column: u32, row: u32) -> Self {
        Self { limit, column, row, shadow: false, owner: Owner::default(), source: Cow::Borrowed("") }
    }
}

/// A row number, and the id of the consumer, credential or service that the row counts.
pub type NamedRow = (u32, String);

/// The one whose use a counter adds up. A field is `None` outside the scope of its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Owner<'a> {
    /// `consumer`, `credential`, `model` or `service`.
    pub scope: &'static str,
    /// The model's name.
    pub model: Option<&'a str>,
    /// The credential's id.
    pub credential: Option<&'a str>,
    /// The service's id.
    pub service: Option<&'a str>,
}

impl<'a> Owner<'a> {
    fn consumer() -> Self {
        Self { scope: Subject::Consumer.name(), ..Self::default() }
    }

    fn credential(id: &'a str) -> Self {
        Self { scope: Subject::Credential.name(), credential: Some(id), ..Self::default() }
    }

    fn model(name: &'a str) -> Self {
        Self { scope: Subject::Model.name(), model: Some(name), ..Self::default() }
    }

    fn of_instance(by: &LimitBy, id: &'a str) -> Self {
        match by {
            LimitBy::Credential => Self::credential(id),
            LimitBy::Service => Self { scope: by.name(), service: Some(id), ..Self::default() },
            _ => Self { scope: by.name(), ..Self::default() },
        }
    }
}

/// Where a caller stands at one limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing<'a> {
    /// The meter: `requests`.
    pub meter: &'static str,
    /// The period as configured; `None` for a bound on so much at once.
    pub per: Option<String>,
    /// The counter's scope and its name in it.
    #[serde(flatten)]
    pub owner: Owner<'a>,
    /// `enforce` or `shadow`.
    pub mode: &'static str,
    /// The whole limit.
    pub limit: u64,
    /// Settled.
    pub used: u64,
    /// Held by calls in flight.
    pub reserved: u64,
    /// Limit without used and reserved.
    pub remaining: u64,
    /// Unix seconds of when the limit is whole again; `None`: as soon as calls end.
    pub resets_at: Option<u32>,
    /// Where the limit is configured: `tier free`.
    pub source: Cow<'a, str>,
}

/// The limits of a policy, for readers that route nothing.
#[derive(Debug)]
pub struct Sources {
    /// Tiers and models.
    offer: Offer,
    /// Instances of rate-limiting.
    profiles: Vec<Profile>,
}

impl From<Policy> for Sources {
    fn from(policy: Policy) -> Self {
        Self { offer: policy.offer, profiles: policy.rate_limiting }
    }
}

/// A plugin instance that applies to a caller.
#[derive(Debug, Clone)]
pub struct Instance<'a> {
    /// Index of its profile in the policy.
    pub profile: usize,
    /// Its name for people.
    pub source: Cow<'a, str>,
    /// The caller's rows in its counters.
    pub rows: Vec<NamedRow>,
}

impl Sources {
    /// The counters of a caller: those of its plugin instances, then those of its tier (row number; 0: the default one).
    pub fn counters<'a>(
        &'a self,
        instances: &'a [Instance<'a>],
        tier: u32,
        consumer: u32,
        credentials: &'a [NamedRow],
    ) -> Vec<Counter<'a>> {
        let mut found = Vec::new();
        for Instance { profile, source, rows } in instances {
            if let Some(profile) = self.profiles.get(*profile) {
                found.extend(of_profile(profile, rows, source));
            }
        }
        if let Some((_, tier)) = self.offer.tier(tier) {
            found.extend(of_tier(&self.offer, tier, consumer, credentials));
        }
        found
    }
}

/// The counters of a tier's limits, shortest period first: for the consumer in row `consumer`, each of its credentials,
/// and each model.
pub fn of_tier<'a>(offer: &'a Offer, tier: &'a Tier, consumer: u32, credentials: &'a [NamedRow]) -> Vec<Counter<'a>> {
    let mut found = Vec::new();
    for limit in &tier.limits {
        let mut add = |column: u32, row: u32, owner: Owner<'a>| {
            let source = format!("tier {}", tier.name).into();
            found.push(Counter { limit: limit.limit, column, row, shadow: limit.shadow, owner, source });
        };
        let column = limit.columns.first().copied().unwrap_or(0);
        match limit.subject {
            Subject::Ip => {}
            Subject::Consumer => add(column, consumer, Owner::consumer()),
            Subject::Credential => credentials.iter().for_each(|(row, id)| add(column, *row, Owner::credential(id))),
            Subject::Model => {
                for (model, column) in offer.models.iter().zip(&limit.columns) {
                    add(*column, consumer, Owner::model(&model.name));
                }
            }
        }
    }
    found
}

/// The counters of a plugin instance, in these rows.
fn of_profile<'a>(profile: &'a Profile, rows: &'a [NamedRow], source: &'a str) -> Vec<Counter<'a>> {
    let limits = || profile.limits.iter().filter_map(|limit| Some((limit.limit, limit.dense?)));
    let counters = rows.iter().flat_map(|(row, id)| {
        limits().map(|(limit, column)| Counter {
            limit,
            column,
            row: *row,
            shadow: false,
            owner: Owner::of_instance(&profile.limit_by, id),
            source: source.into(),
        })
    });
    counters.collect()
}

/// Reads the counters. `rings` are the journals of all workers.
pub fn read<'a>(
    cells: &impl Cells,
    rings: &[&[AtomicU64]],
    counters: Vec<Counter<'a>>,
    now: Moment,
) -> Vec<Standing<'a>> {
    let now = Times::new(now, cells.steady(now));
    let read: Vec<_> = counters
        .iter()
        .map(|counter| {
            let key = CellKey::Dense { column: counter.column, row: counter.row };
            counter.limit.standing(cells, key, now)
        })
        .collect();
    let mut held: HashMap<(CellRef, u64), u64> = read.iter().filter_map(|one| Some((one.held_in?, 0))).collect();
    for taken in rings.iter().flat_map(|ring| journal::open_permits(ring)).flat_map(|permit| permit.held) {
        if let Some(sum) = held.get_mut(&(taken.cell, taken.window)) {
            *sum = sum.saturating_add(taken.amount);
        }
    }
    let rows = counters.into_iter().zip(read).map(|(counter, one)| {
        let facts = counter.limit.facts();
        // An intent may not have been taken yet.
        let reserved = one.held_in.and_then(|at| held.get(&at)).copied().unwrap_or(0).min(one.taken);
        Standing {
            meter: facts.meter,
            per: facts.per.map(|per| per.to_string()),
            owner: counter.owner,
            mode: if counter.shadow { "shadow" } else { "enforce" },
            limit: facts.limit,
            used: one.taken - reserved,
            reserved,
            remaining: facts.limit.saturating_sub(one.taken),
            resets_at: one.resets_at.map(|at| at.0),
            source: counter.source,
        }
    });
    rows.collect()
}

/// The rows as a JSON list.
pub fn json(rows: &[Standing<'_>]) -> Vec<u8> {
    serde_json::to_vec(rows).unwrap_or_default()
}

/// The body of `/v1/limits`.
pub fn page(tier: &str, data: &[Standing<'_>]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Page<'a> {
        object: &'static str,
        tier: &'a str,
        data: &'a [Standing<'a>],
    }
    // A struct of strings and numbers always has a JSON text.
    serde_json::to_vec(&Page { object: "list", tier, data }).unwrap_or_default()
}
