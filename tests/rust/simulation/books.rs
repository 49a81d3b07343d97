//! The books of those outside: the calls that the upstream answered, and the last bytes that clients got. Checks compare the ledger, the
//! store and the counters with them.
//!
//! A kill in the middle of an operation leaves a doubt: the most that a counter may have above or below its entries.

use std::collections::BTreeMap;

use aigw_core::admit::Check;
use aigw_core::cells::CellKey;
use aigw_core::entry::Entry;
use aigw_core::limits::Amounts;
use aigw_core::units::{Moment, RequestId};

use crate::store::Id;

/// A counter's window: column, consumer, end.
pub type Place = (u32, u32, u64);

/// The call as others see it.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
pub struct Seen {
    pub consumer: u32,
    pub admitted: Moment,
    /// Attempts that the upstream has refused with an answer.
    pub refused: u32,
    /// The upstream has sent bytes of an answer that passes.
    pub begun: bool,
    /// Tokens that the upstream has read and made in that answer.
    pub served: (u64, u64),
    /// The last entry of the worker, once it is appended.
    pub row: Option<(Id, Entry)>,
    /// It was on disk when its worker ended.
    pub synced: bool,
    /// The client has the last byte.
    pub acked: bool,
    /// Its entry was not on disk when the power went.
    pub may_be_lost: bool,
}

/// All books.
#[derive(Debug, Default)]
pub struct Books {
    /// By the words of the call's id.
    pub calls: BTreeMap<[u64; 2], Seen>,
    /// Amounts that a counter may have above its entries.
    pub above: BTreeMap<Place, u64>,
    /// Amounts that a counter may have below its entries, and above its limit: an upstream used more than its cap.
    pub overrun: BTreeMap<Place, u64>,
    /// Amounts that calls of earlier windows have taken in a later one.
    pub moved: BTreeMap<Place, u64>,
    pub lost_power: bool,
    /// Steps are printed: one world alone.
    pub aloud: bool,
    /// The first promise that was broken.
    pub fault: Option<String>,
}

impl Books {
    pub fn seen(&mut self, request: RequestId) -> &mut Seen {
        self.calls.entry(request.0).or_default()
    }

    /// Prints a step of a world that runs alone.
    pub fn tell(&self, text: impl FnOnce() -> String) {
        if self.aloud {
            println!("{}", text());
        }
    }

    pub fn blame(&mut self, fault: impl FnOnce() -> String) {
        if self.fault.is_none() {
            self.fault = Some(fault());
        }
    }

    /// A kill may have left so much of a call in its counters.
    pub fn doubt(&mut self, checks: &[Check], amounts: &Amounts, moments: [Moment; 2]) {
        for check in checks {
            for place in moments.iter().filter_map(|moment| place(check, *moment)) {
                *self.above.entry(place).or_default() += amount(place.0, amounts);
            }
        }
    }
}

/// The window of a check at a moment; `None` for calls at once.
pub fn place(check: &Check, moment: Moment) -> Option<Place> {
    let CellKey::Dense { column, row } = check.key else { return None };
    Some((column, row, check.facts().per?.window(moment.seconds()).end.0.into()))
}

/// The part of a call that a column counts.
pub fn amount(column: u32, amounts: &Amounts) -> u64 {
    match column {
        0 => amounts.tokens(),
        1 => amounts.spend,
        2 => amounts.output_tokens,
        3 => 1,
        _ => 0,
    }
}

/// Amounts with their price: seven nano-dollars a token.
pub fn priced(input_tokens: u64, output_tokens: u64) -> Amounts {
    Amounts { input_tokens, output_tokens, spend: 7 * (input_tokens + output_tokens) }
}
