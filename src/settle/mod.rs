//! Stage `settle`: how a call ended, and whether it counts.
//!
//! In: a permit, the end of its call. Out: the amounts stay taken or go back, exactly once, and a [`Report`] for the record.

mod charge;
mod failure;
mod outcome;
mod report;
mod verdict;

pub use charge::{Charge, CountInput, Known, Settled, UsageSource};
pub use failure::{Failure, Shutdown};
pub use outcome::{End, Outcome};
pub use report::{LogContext, Report, Traffic, call_report};
pub use verdict::{Verdict, stand_in};
