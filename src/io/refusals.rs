//! Upstreams that refuse the fleet's key or redirect, for the process log: only the operator can mend these.
//!
//! In: calls of models that are over, with their failed attempts. Out: the lines that are due, for each model and address once
//! a minute. A line names model, address and status, never the key, the answer's headers or its body.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aigw_core::refusal::Reason;
use aigw_core::surface::{EndedCall, FailedAttempt};
use aigw_core::telemetry::ErrorType;
use aigw_core::units::Moment;

/// Nanoseconds until the same refusal is told again: a minute.
const AGAIN: u64 = 60_000_000_000;

/// The event of a line, and the names and texts of its facts.
pub(crate) type Line = (&'static str, Vec<(&'static str, String)>);
/// Event, model, address.
type Refusal = (&'static str, String, String);

/// The refusals that were told within the last minute, with the time of their line.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<Refusal, Moment>>);

impl Refusals {
    /// The lines that a call makes due.
    pub(crate) fn due(&self, call: &EndedCall, now: Moment) -> Vec<Line> {
        let model = call.report().model.unwrap_or_default();
        call.failed_attempts().iter().filter_map(|attempt| self.line(model, attempt, now)).collect()
    }

    fn line(&self, model: &str, attempt: &FailedAttempt, now: Moment) -> Option<Line> {
        let repair = if attempt.error == ErrorType::of_reason(Reason::UpstreamAuth) {
            "check api_key, account and credit of this upstream"
        } else if attempt.error == ErrorType::of_reason(Reason::UpstreamRedirect) {
            "put the final address into the url of this upstream"
        } else {
            return None;
        };
        let (event, upstream) = (attempt.error.name(), attempt.upstream.to_string());
        let status = attempt.status?.as_u16().to_string();
        let is_news = self.is_news((event, model.to_owned(), upstream.clone()), now);
        let facts =
            [("model", model.to_owned()), ("upstream", upstream), ("status", status), ("repair", repair.into())];
        is_news.then(|| (event, facts.into()))
    }

    fn is_news(&self, refusal: Refusal, now: Moment) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| now.since(*at) < AGAIN);
        let is_news = !told.contains_key(&refusal);
        if is_news {
            told.insert(refusal, now);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use aigw_core::balance::Origin;
    use http::StatusCode;
    use std::sync::Arc;

    fn attempt(port: u16, reason: Reason) -> FailedAttempt {
        let origin = Origin { tls: false, verify: true, host: "llm.test".into(), port, settings: None };
        FailedAttempt {
            upstream: Arc::new(origin),
            error: ErrorType::of_reason(reason),
            status: Some(StatusCode::UNAUTHORIZED),
        }
    }

    #[test]
    fn refusal_is_told_once_a_minute_for_each_target() {
        let refusals = Refusals::default();
        let at = |seconds: u64| Moment(1_000_000_000 * (1_000 + seconds));
        let told = |model, port, reason, seconds| refusals.line(model, &attempt(port, reason), at(seconds)).is_some();
        assert!(told("m", 1, Reason::UpstreamAuth, 0));
        assert!(!told("m", 1, Reason::UpstreamAuth, 59));
        assert!(told("n", 1, Reason::UpstreamAuth, 0) && told("m", 2, Reason::UpstreamAuth, 0));
        assert!(told("m", 1, Reason::UpstreamRedirect, 1));
        assert!(told("m", 1, Reason::UpstreamAuth, 60));
        assert!(!told("m", 1, Reason::UpstreamTimeout, 0));
    }

    #[test]
    fn line_names_model_address_and_status() {
        let (event, facts) = Refusals::default().line("m", &attempt(9, Reason::UpstreamAuth), Moment(0)).unwrap();
        let facts: Vec<_> = facts.iter().map(|(name, text)| (*name, text.as_str())).collect();
        assert_eq!(event, "upstream_auth");
        assert_eq!(facts[..3], [("model", "m"), ("upstream", "llm.test:9"), ("status", "401")]);
        assert!(facts[3].1.contains("api_key"));
    }
}
