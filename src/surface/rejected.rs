//! A request that was turned away, with the facts that its record and its answer need.

use std::sync::Arc;

use crate::in_force::InForce;
use crate::refusal::{Reason, Refusal};
use crate::settle::LogContext;

/// A request that a stage turned away, or that is refused between the stages.
#[derive(Debug)]
pub struct Rejected {
    /// Why.
    pub refusal: Refusal,
    /// The facts of the request that were known by then.
    pub context: LogContext,
    /// The configuration that judged it.
    pub in_force: Arc<InForce>,
}

impl Rejected {
    /// A request that is refused for this reason.
    pub fn new(reason: Reason, context: LogContext, in_force: &Arc<InForce>) -> Self {
        Self { refusal: reason.into(), context, in_force: Arc::clone(in_force) }
    }
}
