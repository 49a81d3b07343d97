//! All suites of the core in one program: `make mutants` builds and links once for each fault. Nothing else builds it.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "admission.rs"]
mod admission;
#[path = "budgets.rs"]
mod budgets;
#[path = "call_ends.rs"]
mod call_ends;
#[path = "cells_budgets.rs"]
mod cells_budgets;
#[path = "clock_steps.rs"]
mod clock_steps;
#[path = "fleet.rs"]
mod fleet;
#[path = "health.rs"]
mod health;
#[path = "journal.rs"]
mod journal;
#[path = "keys.rs"]
mod keys;
#[path = "limits.rs"]
mod limits;
#[path = "open_area.rs"]
mod open_area;
#[path = "permits_crashes.rs"]
mod permits_crashes;
#[path = "policy.rs"]
mod policy;
#[path = "rate.rs"]
mod rate;
#[path = "rows.rs"]
mod rows;
#[path = "standing.rs"]
mod standing;
#[path = "surface_kong.rs"]
mod surface_kong;
#[path = "surface_openai.rs"]
mod surface_openai;
#[path = "token_buckets.rs"]
mod token_buckets;
#[path = "usage.rs"]
mod usage;
#[path = "windows.rs"]
mod windows;
