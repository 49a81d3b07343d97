//! The stages of a request in their order. One file for each surface: [`kong`] (services and routes), [`openai`] (models on
//! `/v1`); [`call`] has the stages behind admission, which both share.
//!
//! In: a head, then its body, each with the time. Out: [`Stages::head`] returns a [`HeadOutcome`], [`Stages::body`] an
//! [`Admitted`] request, the only value that an upstream client takes. The head peeks at the limits and takes nothing; the
//! whole body takes from all of them, or from none. A stage that turns a request away ends it: [`Rejected`].

pub mod call;
mod case;
mod kong;
mod openai;

use std::sync::Arc;

use bytes::Bytes;

use crate::accept;
use crate::admit::Admitter;
use crate::cells::CounterSpace;
use crate::identify::KeyHasher;
use crate::in_force::InForce;
use crate::r#match::operation;
use crate::refusal::Refusal;
use crate::request::{Head, Surface};
use crate::settle::LogContext;
use crate::units::Moment;
pub use call::{Admitted, Call, EndedCall, FailedCall};
pub use case::{Accepted, HeadOutcome, StandingReader};
use case::{Case, Findings};

/// The stages of one worker, over the counters of `P`.
pub struct Stages<P: CounterSpace> {
    hasher: KeyHasher,
    admitter: Admitter<P>,
}

/// A request that a stage turned away.
#[derive(Debug)]
pub struct Rejected {
    /// Why.
    pub refusal: Refusal,
    /// The facts of the request that were known by then.
    pub context: LogContext,
    /// The configuration that judged it.
    pub in_force: Arc<InForce>,
}

impl<P: CounterSpace> Stages<P> {
    /// The stages over these keys and counters.
    pub fn new(hasher: KeyHasher, admitter: Admitter<P>) -> Self {
        Self { hasher, admitter }
    }

    /// Judges a head: finds its surface, then goes through the stages of that surface.
    pub fn head(
        &self,
        in_force: &Arc<InForce>,
        head: &mut Head,
        now: Moment,
        standing: &StandingReader<'_>,
    ) -> Result<HeadOutcome, Box<Rejected>> {
        // `/v1` is OpenAI's as soon as there are models, before any route.
        if operation::serves(&head.path) && !in_force.offer().models.is_empty() {
            head.surface = Surface::OpenAi;
        }
        let mut context = LogContext::default();
        let outcome = accept::head::judge(head).map_err(Refusal::from).and_then(|length| {
            head.length = length;
            let case = Case { in_force, hasher: &self.hasher, admitter: &self.admitter, head, now };
            match case.head.surface {
                Surface::Kong => kong::head(&case, &mut context),
                Surface::OpenAi => openai::head(&case, &mut context, standing),
            }
        });
        outcome.map_err(|refusal| Box::new(Rejected { refusal, context, in_force: Arc::clone(in_force) }))
    }

    /// Admits a request whose body is whole: takes from all of its limits, or refuses. The configuration that judged the head
    /// judges the body.
    pub fn body(
        &self,
        accepted: Accepted,
        head: &Arc<Head>,
        body: Bytes,
        now: Moment,
    ) -> Result<Admitted<P>, Box<Rejected>> {
        let Accepted { in_force, context, checks, findings } = accepted;
        let ingress = body.len() as u64;
        let (hasher, admitter) = (&self.hasher, &self.admitter);
        let case = Case { in_force: &in_force, hasher, admitter, head, now };
        let admission = match findings {
            Findings::Kong(kong) => kong::body(&case, context, kong, checks, body),
            Findings::OpenAi(openai) => openai::body(&case, context, openai, checks, body),
        };
        match admission {
            Ok(admission) => Ok(Admitted::new(admission, in_force, Arc::clone(head), context, ingress)),
            Err(refusal) => Err(Box::new(Rejected { refusal, context, in_force })),
        }
    }
}
