//! The stages of a request in their order. One file for each surface: [`kong`] (services and routes), [`openai`] (models on
//! `/v1`); [`call`] has the stages behind admission, which both share.
//!
//! In: a head, then its body, each with the time. Out: [`Stages::head`] returns a [`HeadOutcome`], [`Stages::body`] an
//! [`Admitted`] request, the only value that an upstream client takes. The head peeks at the limits and takes nothing; the
//! whole body takes from all of them, or from none. A stage that turns a request away ends it: [`Rejected`].

mod bounds;
mod budget;
pub mod call;
mod case;
pub mod cors;
mod ended;
mod entry;
mod extension;
mod in_flight;
mod kong;
mod openai;
pub mod question;
mod rejected;
mod tokenize;

use std::sync::Arc;

use bytes::Bytes;

use crate::accept;
use crate::accept::room::Room;
use crate::admit::Admitter;
use crate::cells::CounterSpace;
use crate::identify::KeyHasher;
use crate::in_force::InForce;
use crate::r#match::{self, operation};
use crate::refusal::{Reason, Refusal};
use crate::request::{Head, Surface};
use crate::settle::LogContext;
use crate::units::Moment;
pub use bounds::Bounds;
pub use call::{Admitted, Call, FailedCall, Judged};
pub use case::{Accepted, HeadOutcome, StandingReader};
use case::{Case, Findings};
pub use ended::{EndedCall, FailedAttempt};
pub use extension::Current;
pub use question::Question;
pub use rejected::Rejected;

/// The stages of one worker, over the counters of `P`.
pub struct Stages<P: CounterSpace> {
    hasher: KeyHasher,
    admitter: Admitter<P>,
    bounds: Bounds,
}

impl<P: CounterSpace> Stages<P> {
    /// The stages over these keys and counters.
    pub fn new(hasher: KeyHasher, admitter: Admitter<P>, bounds: Bounds) -> Self {
        Self { hasher, admitter, bounds }
    }

    /// The memory of bodies and answers.
    pub fn room(&self) -> &Arc<Room> {
        &self.bounds.room
    }

    /// Judges a head: finds its surface, then goes through the stages of that surface.
    pub fn head(
        &self,
        in_force: &Arc<InForce>,
        head: &mut Head,
        now: Moment,
        standing: &StandingReader<'_>,
    ) -> Result<HeadOutcome, Box<Rejected>> {
        head.surface = surface(in_force, head);
        let mut context = LogContext::default();
        let outcome = accept::head::judge(head).map_err(Refusal::from).and_then(|framing| {
            (head.length, head.closes, head.passes) = (framing.length, framing.closes, framing.passes);
            if let Some(probe) = self.bounds.probes.before_routes(head) {
                return Ok(HeadOutcome::Probe(probe));
            }
            let case = self.case(in_force, head, now);
            match case.head.surface {
                Surface::Kong => kong::head(&case, &mut context),
                Surface::OpenAi => openai::head(&case, &mut context, standing),
            }
        });
        let outcome = outcome.or_else(|refusal| match refusal.reason {
            Reason::NoRoute => self.bounds.probes.of(head).map(HeadOutcome::Probe).ok_or(refusal),
            _ => Err(refusal),
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
        let Accepted { in_force, mut context, checks, findings } = accepted;
        let ingress = body.len() as u64;
        let case = self.case(&in_force, head, now);
        let admission = match findings {
            Findings::Kong(kong) => kong::body(&case, context, kong, checks, body),
            Findings::OpenAi(openai) => openai::body(&case, head, &mut context, openai, checks, body),
            Findings::Tokenize(_) | Findings::Question(_) => Err(Reason::Internal.into()),
        };
        match admission {
            Ok(admission) => Ok(Admitted::new(admission, in_force, Arc::clone(head), context, ingress, now)),
            Err(refusal) => Err(Box::new(Rejected { refusal, context, in_force })),
        }
    }

    fn case<'a>(&'a self, in_force: &'a Arc<InForce>, head: &'a Head, now: Moment) -> Case<'a, P> {
        let Self { hasher, admitter, bounds } = self;
        Case { in_force, hasher, admitter, bounds, head, now }
    }

    /// Counts the tokens of a body that is asked about ([`Accepted::is_counted`]). Takes from no limit.
    pub fn tokenize(
        &self,
        accepted: Accepted,
        head: &Head,
        body: Bytes,
        now: Moment,
    ) -> Result<(Arc<InForce>, LogContext, Bytes), Box<Rejected>> {
        let Accepted { in_force, context, findings, .. } = accepted;
        let case = self.case(&in_force, head, now);
        let document = match findings {
            Findings::Tokenize(coding) => tokenize::body(&case, context, coding, body),
            Findings::Kong(_) | Findings::OpenAi(_) | Findings::Question(_) => Err(Reason::Internal.into()),
        };
        match document {
            Ok(document) => Ok((in_force, context, document)),
            Err(refusal) => Err(Box::new(Rejected { refusal, context, in_force })),
        }
    }
}

/// The surface of a head. `/v1` is OpenAI's as soon as there are models, before any route; Azure's paths of the same are,
/// unless a route is for them.
fn surface(in_force: &InForce, head: &Head) -> Surface {
    let azure = operation::serves_azure(&head.path);
    if (!azure && !operation::serves(&head.path)) || in_force.offer().models.is_empty() {
        return Surface::Kong;
    }
    if azure {
        let headers: Vec<(&str, &str)> = head.headers.iter().collect();
        let route = r#match::route(&in_force.policy().router, head, &headers);
        if route.is_ok_and(|route| operation::route_precedes(route.prefix_len)) {
            return Surface::Kong;
        }
    }
    Surface::OpenAi
}
