//! Counters without a ledger: calls that are killed keep their progress, else their reservation.
#![allow(dead_code, missing_docs, unreachable_pub, unused_macros)]

use aigw_core::admit::{Books, NotNow};
use aigw_core::cells::journal::{DRAFT_WORDS, TakenAmount};
use aigw_core::limits::{Amounts, Usage};
use aigw_core::units::RequestId;

/// A row that nobody reads.
pub const DRAFT: [u64; DRAFT_WORDS] = [0; DRAFT_WORDS];

/// Nothing is written, and nothing was.
pub struct NoLedger;

impl Books for NoLedger {
    fn used(&mut self, _: RequestId) -> Option<Usage> {
        None
    }

    fn add(&mut self, _: &[u64; DRAFT_WORDS], progress: Option<[u64; 3]>) -> Result<Option<Usage>, NotNow> {
        Ok(progress.map(|[input_tokens, output_tokens, spend]| Usage {
            requests: 1,
            amounts: Amounts { input_tokens, output_tokens, spend },
        }))
    }

    fn doubt(&mut self, _: RequestId, _: impl Iterator<Item = TakenAmount>) -> Result<(), NotNow> {
        Ok(())
    }
}

/// A space whose rows go nowhere.
macro_rules! no_rows {
    ($space:ty) => {
        impl aigw_core::cells::Rows for $space {
            fn claim(&self, _: u32) -> bool {
                true
            }

            fn release(&self, _: u32) {}

            fn append(&self, _: &[u64; aigw_core::cells::ROW]) -> bool {
                true
            }
        }
    };
}
