//! The body of a refusal on `/v1`, in OpenAI's form; the gateway's own facts stand under `error.aigw`.
//!
//! In: a refusal and the caller's tier. Out: JSON that the official clients turn into their exception classes. The status
//! comes from the table of reasons; this file adds OpenAI's `type` and `code`, and the messages that only `/v1` has.
//! Source: the error object of OpenAI's `OpenAPI` description: message, type, param and code are always there.

use serde::Serialize;

use super::{LimitFacts, Reason, Refusal};

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
        Reason::SizeLimited | Reason::BodyTooLarge | Reason::BodyInPieces => (INVALID, "request_too_large"),
        Reason::RateLimited => ("requests", "rate_limit_exceeded"),
        Reason::ConcurrencyLimited | Reason::BodyMemory => ("requests", reason.code()),
        Reason::QuotaExhausted => ("insufficient_quota", "insufficient_quota"),
        Reason::Overloaded | Reason::LedgerFull | Reason::Draining | Reason::Drained => ("server_error", "overloaded"),
        Reason::UpstreamTimeout | Reason::UpstreamConnectTimeout | Reason::UpstreamVanished => {
            ("server_error", "upstream_timeout")
        }
        Reason::UpstreamAuth | Reason::ControlAway | Reason::LoopDetected => ("server_error", reason.code()),
        _ => match reason.status() {
            502..=504 => ("server_error", "upstream_error"),
            500 => ("server_error", "internal_error"),
            _ => (INVALID, reason.code()),
        },
    }
}

/// The message of a reason on `/v1`. Messages about upstreams name the repair, which is the operator's, and no address.
fn message(reason: Reason) -> &'static str {
    match reason {
        Reason::UpstreamRefused => {
            "The model's server refused the connection; nothing was sent. If this lasts, the operator of this API should check that the server runs where the url of the model's upstream points."
        }
        Reason::UpstreamUnresolved => {
            "The name of the model's server has no address; nothing was sent. If this lasts, the operator of this API should check the host in the url of the model's upstream, and the gateway's DNS."
        }
        Reason::UpstreamForbidden => {
            "The name of the model's server leads to an address that this gateway does not call; nothing was sent. The operator of this API finds the address in the gateway's log, and can allow it with AIGW_UPSTREAM_ALLOW."
        }
        Reason::UpstreamTls => {
            "No TLS connection to the model's server could be made; nothing was sent. The operator of this API finds the cause in the gateway's log: most often the server's certificate, or a server without TLS."
        }
        Reason::UpstreamConnectTimeout => {
            "The model's server did not accept a connection in time; nothing was sent. If this lasts, the operator of this API should check the network and the firewalls between the gateway and the server."
        }
        Reason::UpstreamOut => {
            "Connections to the model's server failed several times in a row; nothing was sent, and the gateway tries again soon. The operator of this API finds the cause in the gateway's log."
        }
        Reason::UpstreamReset => {
            "The model's server closed the connection before its answer was whole, and may have worked on the call. The operator of this API finds the cause in the server's own log."
        }
        Reason::UpstreamGarbage => {
            "The model's server sent an answer that cannot be read. The operator of this API should check that the url of the model's upstream names an HTTP server, with https:// where it speaks TLS."
        }
        Reason::UpstreamTimeout => {
            "The model's server did not answer in time, and may have worked on the call. The operator of this API can raise the timeouts of the tier or of the model."
        }
        Reason::UpstreamUnreachable => {
            "There is no network path to the model's server; nothing was sent. If this lasts, the operator of this API should check the routes and firewalls between the gateway and the server."
        }
        Reason::UpstreamProxy => {
            "The proxy between the gateway and the model's server refused the connection or could not be reached; nothing was sent. The operator of this API should check the gateway's HTTPS_PROXY, HTTP_PROXY and NO_PROXY."
        }
        Reason::UpstreamVanished => {
            "The host of the model's server stopped responding, and the server may have worked on the call. If this lasts, the operator of this API should check that the host is up and reachable."
        }
        Reason::UpstreamEncoding => {
            "The model's server compressed its answer, although the gateway asks for plain ones. The operator of this API should switch compression off at that server."
        }
        _ => reason.row().message,
    }
}

/// The body. `retryable`: the same request may pass if it is sent again soon.
pub fn render(refusal: &Refusal, tier: Option<&str>, request_id: &str, retryable: bool) -> Vec<u8> {
    let (kind, code) = match kind(refusal.reason) {
        ("requests", code) if refusal.limit.as_ref().is_some_and(|limit| limit.tokens) => ("tokens", code),
        pair => pair,
    };
    let row = refusal.reason.row();
    let facts = Facts { reason: row.code, request_id, tier, limit: refusal.limit.as_deref(), retryable };
    let message = refusal.message.as_deref().unwrap_or_else(|| message(refusal.reason));
    let error = Error { message, r#type: kind, param: refusal.param.as_deref(), code, aigw: facts };
    // A struct of strings and numbers always has a JSON text.
    serde_json::to_vec(&Body { error }).unwrap_or_default()
}

/// A refusal as the last event of a stream that had begun.
pub fn event(refusal: &Refusal, request_id: &str) -> Vec<u8> {
    // The blank line ends an event that was passed on in part.
    let mut out = b"\n\ndata: ".to_vec();
    out.extend(render(refusal, None, request_id, false));
    out.extend_from_slice(b"\n\n");
    out
}

/// The refusal of a caller without a valid key.
pub fn unauthorized(reason: Reason) -> Refusal {
    let message = match reason {
        Reason::NoApiKey => {
            "You didn't provide an API key. Send it as 'Authorization: Bearer KEY', or in an 'apikey', 'api-key' or 'x-api-key' header."
        }
        Reason::DuplicateApiKey => "Different API keys were provided: send one key.",
        _ => "Incorrect API key provided.",
    };
    Refusal::because(reason, message)
}

/// The refusal of a model name that no model has.
pub fn no_model(name: &str) -> Refusal {
    // 128 characters are enough to see a typo.
    let shown: String = name.chars().take(128).collect();
    let message = format!("The model '{shown}' does not exist. GET /v1/models lists those you may call.");
    Refusal::because(Reason::ModelNotFound, message).about("model")
}

/// The refusal of a path below `/v1` that no endpoint has. It names the endpoints there are.
pub fn no_endpoint(path: &str) -> Refusal {
    // 128 characters are enough to see a typo.
    let shown: String = path.chars().take(128).collect();
    let message = format!(
        "The endpoint '{shown}' does not exist here, or is not supported. Call models with POST /v1/chat/completions \
         (also in place of /v1/responses, /v1/messages and /v1/assistants), /v1/completions or /v1/embeddings; \
         GET /v1/models lists them, GET /v1/limits shows your limits, GET /v1/usage your usage."
    );
    Refusal::because(Reason::UnsupportedEndpoint, message)
}

/// The refusal of a compressed body whose plain form is above the gateway's bound.
pub fn too_large_decoded(most: u64) -> Refusal {
    let message = format!("The decoded request is larger than the {most} bytes that this gateway accepts.");
    Refusal::because(Reason::SizeLimited, message)
}

/// The refusal of a body above the tier's bound.
pub fn too_large(most: u64) -> Refusal {
    let message = format!("The request is larger than the {most} bytes that your tier allows.");
    Refusal::because(Reason::SizeLimited, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::refusal::TABLE;
    use serde_json::{Value, json};

    fn body(refusal: &Refusal) -> Value {
        serde_json::from_slice(&render(refusal, Some("free"), "ab", true)).unwrap()
    }

    #[test]
    fn body_always_has_four_members() {
        for row in TABLE {
            let error = body(&row.reason.into())["error"].clone();
            assert!(error["message"].is_string() && error["type"].is_string() && error["code"].is_string(), "{error}");
            assert_eq!((&error["param"], &error["aigw"]["reason"]), (&Value::Null, &json!(row.code)));
        }
    }

    #[test]
    fn body_shows_limit() {
        let limit = LimitFacts {
            policy: "100 requests per day".into(),
            meter: "requests",
            per: Some("day".into()),
            limit: 100,
            used: 100,
            reserved: None,
            needs: None,
            left: None,
            tokens: false,
            scope: "consumer",
            reset_at: 86_400,
        };
        let error = body(&Refusal { limit: Some(limit.into()), ..Reason::QuotaExhausted.into() })["error"].clone();
        assert_eq!(error["type"], "insufficient_quota");
        assert_eq!(
            error["aigw"],
            json!({"reason": "insufficient_quota", "request_id": "ab", "tier": "free", "policy": "100 requests per day", "meter": "requests", "per": "day",
                   "limit": 100, "used": 100, "scope": "consumer", "reset_at": 86_400, "retryable": true})
        );
    }

    #[test]
    fn body_escapes_text_of_client() {
        let refusal = Refusal::because(Reason::ModelNotFound, "no '\"\n</x>'").about("model");
        let error = body(&refusal)["error"].clone();
        assert_eq!(
            (&error["message"], &error["param"], &error["code"]),
            (&json!("no '\"\n</x>'"), &json!("model"), &json!("model_not_found"))
        );
        assert!(String::from_utf8(event(&refusal, "ab")).unwrap().starts_with("\n\ndata: {\"error\":{"));
    }
}
