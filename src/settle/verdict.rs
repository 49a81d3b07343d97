//! The verdict on an upstream's answer to a model's call: whose failure it is, by its status.
//!
//! In: a status. Out: a [`Verdict`], and the [`Failure`] that stands for an answer that no client may see. A redirect would
//! lead a client past the gateway; 401, 402, 403 and 407 speak of the fleet's own key. On Kong's routes there is no verdict:
//! an upstream's answer is the answer.

use http::StatusCode;

use super::Failure;

/// The verdict on an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verdict {
    /// The answer that was asked for, or no answer yet: an answered call counts.
    #[default]
    Success,
    /// An error about the request, or one inside a successful answer: the call counts.
    Error,
    /// The fleet's own failure: the amounts of the call go back.
    Fleets,
}

impl Verdict {
    /// The verdict on an answer with this status.
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            ..=299 => Self::Success,
            300..=399 | 401 | 402 | 403 | 407 | 408 | 429 | 500.. => Self::Fleets,
            400..=499 => Self::Error,
        }
    }
}

/// The failure that stands for an answer of this status; `None`: the answer may pass.
pub fn stand_in(status: StatusCode) -> Option<Failure> {
    match status.as_u16() {
        300..=399 => Some(Failure::Redirected),
        401 | 402 | 403 | 407 => Some(Failure::Unauthorized),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn statuses_belong_to_fleet_or_request() {
        for (statuses, verdict, failure) in [
            (&[200, 201, 204, 299][..], Verdict::Success, None),
            (&[300, 301, 302, 303, 304, 307, 308, 399], Verdict::Fleets, Some(Failure::Redirected)),
            (&[401, 402, 403, 407], Verdict::Fleets, Some(Failure::Unauthorized)),
            (&[408, 429, 500, 501, 502, 503, 504, 529, 599, 999], Verdict::Fleets, None),
            (&[400, 404, 405, 409, 413, 415, 422, 424, 451, 499], Verdict::Error, None),
        ] {
            for status in statuses.iter().map(|status| StatusCode::from_u16(*status).unwrap()) {
                assert_eq!((Verdict::of(status), stand_in(status)), (verdict, failure), "{status}");
            }
        }
    }
}
