//! The body of a refusal on `/v1`, in OpenAI's form, with what the gateway knows of it under `error.aigw`.
//!
//! In: a refusal, and the limit that refused. Out: JSON that the official clients turn into their exception classes; the
//! stage's own words stand in `message`. Statuses are the table's (`denial`); here are only types and codes.
//! Source: the error object of OpenAI's `OpenAPI` description: message, type, param and code are always there.

use serde::Serialize;

use crate::denial::{Reason, Refused};

/// What is told of a limit that refused.
#[derive(Debug, Clone, Serialize)]
pub struct LimitFacts {
    /// The limit in words: `100 requests per day`.
    pub policy: String,
    /// Requests allowed.
    pub limit: u32,
    /// Requests counted.
    pub used: u32,
    /// What is counted on its own.
    pub scope: &'static str,
    /// Unix seconds at which one more passes.
    pub reset_at: u32,
}

#[derive(Serialize)]
struct Body<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'static str,
    aigw: Facts<'a>,
}

#[derive(Serialize)]
struct Facts<'a> {
    reason: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<&'a str>,
    #[serde(flatten)]
    limit: Option<&'a LimitFacts>,
    /// Whether the same request may pass if it is sent again soon.
    retryable: bool,
}

/// OpenAI's `type` and `code` of a reason.
pub fn kind(reason: Reason) -> (&'static str, &'static str) {
    const INVALID: &str = "invalid_request_error";
    match reason {
        Reason::NoApiKey | Reason::DuplicateApiKey | Reason::InvalidApiKey => (INVALID, "invalid_api_key"),
        Reason::NoTier | Reason::ModelNotAllowed | Reason::FeatureNotInTier => ("permission_error", reason.code()),
        Reason::SizeLimited | Reason::BodyTooLarge => (INVALID, "request_too_large"),
        Reason::RateLimited => ("requests", "rate_limit_exceeded"),
        Reason::QuotaExhausted => ("insufficient_quota", "insufficient_quota"),
        Reason::Overloaded | Reason::Draining | Reason::Drained => ("server_error", "overloaded"),
        Reason::UpstreamTimeout | Reason::UpstreamConnectTimeout => ("server_error", "upstream_timeout"),
        _ => match reason.status() {
            502..=504 => ("server_error", "upstream_error"),
            500 => ("server_error", "internal_error"),
            _ => (INVALID, reason.code()),
        },
    }
}

/// The body.
pub fn render(
    refused: &Refused,
    tier: Option<&str>,
    limit: Option<&LimitFacts>,
    request_id: &str,
    retryable: bool,
) -> Vec<u8> {
    let (kind, code) = kind(refused.reason);
    let row = refused.reason.row();
    let facts = Facts { reason: row.code, request_id, tier, limit, retryable };
    let error = Error { message: refused.message(), r#type: kind, param: refused.param.as_deref(), code, aigw: facts };
    // A struct of strings and numbers always has a JSON text.
    serde_json::to_vec(&Body { error }).unwrap_or_default()
}

/// A refusal as an event of a stream that had begun: nothing else may follow it.
pub fn event(refused: &Refused, tier: Option<&str>, request_id: &str) -> Vec<u8> {
    // The blank line ends whatever piece of an event went before.
    let mut out = b"\n\ndata: ".to_vec();
    out.extend(render(refused, tier, None, request_id, false));
    out.extend_from_slice(b"\n\n");
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::denial::TABLE;
    use serde_json::{Value, json};

    fn body(refused: &Refused, limit: Option<&LimitFacts>) -> Value {
        serde_json::from_slice(&render(refused, Some("free"), limit, "ab", true)).unwrap()
    }

    #[test]
    fn the_four_members_are_always_there() {
        for row in TABLE {
            let error = body(&row.reason.into(), None)["error"].clone();
            assert!(error["message"].is_string() && error["type"].is_string() && error["code"].is_string(), "{error}");
            assert_eq!((&error["param"], &error["aigw"]["reason"]), (&Value::Null, &json!(row.code)));
        }
    }

    #[test]
    fn a_limit_is_told_whole() {
        let limit = LimitFacts {
            policy: "100 requests per day".into(),
            limit: 100,
            used: 100,
            scope: "consumer",
            reset_at: 86_400,
        };
        let error = body(&Reason::QuotaExhausted.into(), Some(&limit))["error"].clone();
        assert_eq!(error["type"], "insufficient_quota");
        assert_eq!(
            error["aigw"],
            json!({"reason": "insufficient_quota", "request_id": "ab", "tier": "free", "policy": "100 requests per day",
                   "limit": 100, "used": 100, "scope": "consumer", "reset_at": 86_400, "retryable": true})
        );
    }

    #[test]
    fn text_of_the_client_cannot_break_out() {
        let refused =
            Refused { param: Some("model".into()), ..Refused::because(Reason::ModelNotFound, "no '\"\n</x>'") };
        let error = body(&refused, None)["error"].clone();
        assert_eq!(
            (&error["message"], &error["param"], &error["code"]),
            (&json!("no '\"\n</x>'"), &json!("model"), &json!("model_not_found"))
        );
        assert!(String::from_utf8(event(&refused, None, "ab")).unwrap().starts_with("\n\ndata: {\"error\":{"));
    }
}
