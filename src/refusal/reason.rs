//! Every reason to refuse a request, in one table.
//!
//! In: a stage names a [`Reason`]. Out: its [`Row`]: machine code, status, the message for a client, and advice on a retry.
//! Invariant: one row per reason, in the order of the enum, so that docs and metrics are made from [`TABLE`] alone.
//! It holds no data of a request: the stage that refuses adds its own message and headers to a [`Refusal`](super::Refusal).

/// The advice on a retry after this refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same request will be refused again: it must change.
    Never,
    /// After the `Retry-After` header of the answer.
    After,
    /// At once or with the client's own back-off: nothing was sent upstream.
    Soon,
    /// Not by itself: upstream may have acted on the request (`x-should-retry: false`).
    Unsafe,
    /// Not by itself: only the operator can mend it (`x-should-retry: false` on `/v1`).
    Operator,
}

/// The extra headers a refusal carries. The stage that refuses knows their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// No extra header.
    None,
    /// `WWW-Authenticate`, from the key-auth configuration (`KeyAuth::challenge`).
    Challenge,
    /// `X-RateLimit-*`, `RateLimit-*`, `Retry-After` (`x-should-retry: false` where it is long, or money is spent) and
    /// `X-AIGW-Limit|Scope|Reset`, from the limits that were checked.
    Limits,
    /// `Connection: Upgrade` and `Upgrade: TLS/1.2, HTTP/1.1`; with a redirect status `Location` instead.
    Upgrade,
    /// `Retry-After` in whole seconds.
    RetryAfter,
    /// `Allow`-free refusal after which the connection must be closed (framing can no longer be trusted).
    Close,
}

/// One reason to refuse, as data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The reason this row describes.
    pub reason: Reason,
    /// Machine name: metrics label and log field.
    pub code: &'static str,
    /// HTTP status, unless configuration chooses another (`error_code`, `https_redirect_status_code`).
    pub status: u16,
    /// The text of the body, in Kong's words where Kong has this refusal.
    pub message: &'static str,
    /// Extra headers of the answer.
    pub extra: Extra,
    /// Advice to the client.
    pub retry: Retry,
    /// When it is given: the reason's own description, for docs.
    pub why: &'static str,
}

/// Builds the enum and its table from one list, so that neither can lack an entry of the other.
macro_rules! denials {
    ($( $(#[doc = $doc:literal])+ $name:ident = $code:literal, $status:literal, $message:literal, $extra:ident, $retry:ident; )+) => {
        /// A reason to refuse. `reason.row()` has everything about it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $( $(#[doc = $doc])+ $name, )+ }

        /// Every reason, in the order of [`Reason`].
        pub const TABLE: &[Row] = &[ $( Row {
            reason: Reason::$name, code: $code, status: $status, message: $message,
            extra: Extra::$extra, retry: Retry::$retry,
            why: concat!($($doc),+),
        }, )+ ];
    };
}

denials! {
    /// No key where the route demands one, or an empty one.
    NoApiKey = "no_api_key", 401, "No API key found in request", Challenge, Never;
    /// More than one key in one request.
    DuplicateApiKey = "duplicate_api_key", 401, "Duplicate API key found", Challenge, Never;
    /// Unknown or expired key.
    InvalidApiKey = "invalid_api_key", 401, "Unauthorized", Challenge, Never;
    /// The configured anonymous consumer is gone; the message names it.
    AnonymousMissing = "anonymous_missing", 500, "anonymous consumer is configured but doesn't exist", None, Never;
    /// Nothing in the configuration matches.
    NoRoute = "no_route", 404, "no Route matched with those values", None, Never;
    /// The route has no service.
    NoService = "no_service", 503, "no Service found with those values", None, Never;
    /// The upstream of the service has no target with a weight.
    NoTarget = "no_target", 503, "failure to get a peer from the ring-balancer", None, Soon;
    /// An https-only route over http.
    HttpsRequired = "https_required", 426, "Please use HTTPS protocol", Upgrade, Never;
    /// A path with more than one reading: dot segments, `//`, `\`, control characters, invalid UTF-8.
    BadPath = "bad_path", 400, "The request path is not in canonical form", None, Never;
    /// Missing, repeated or malformed `Host`.
    BadHost = "bad_host", 400, "Exactly one valid Host header is required", Close, Never;
    /// Content-Length with Transfer-Encoding, a chunked body that does not parse, and the like.
    BadFraming = "bad_framing", 400, "The framing of the request is ambiguous", Close, Never;
    /// CONNECT, TRACE.
    MethodRefused = "method_refused", 405, "Method not allowed", Close, Never;
    /// More header bytes or lines than allowed.
    HeadersTooLarge = "headers_too_large", 431, "Request header fields too large", Close, Never;
    /// More body bytes than allowed.
    BodyTooLarge = "body_too_large", 413, "Request size limit exceeded", Close, Never;
    /// The body did not arrive in time.
    BodyTimeout = "body_timeout", 408, "The request body did not arrive in time", Close, Soon;
    /// The client went away, or broke its framing, in the middle of the body.
    BodyCut = "body_cut", 400, "The request body ended early", Close, Soon;
    /// The body is larger than request-size-limiting or the tier allows.
    SizeLimited = "size_limited", 413, "Request size limit exceeded", None, Never;
    /// request-size-limiting wants a length and there is none.
    LengthRequired = "length_required", 411, "A valid Content-Length header is required", None, Never;
    /// The acl of the route asks for a consumer and there is none.
    AclUnauthorized = "acl_unauthorized", 401, "Unauthorized", None, Never;
    /// The acl of the route does not let the consumer's groups pass.
    AclForbidden = "acl_forbidden", 403, "You cannot consume this service", None, Never;
    /// No such endpoint under `/v1`.
    UnsupportedEndpoint = "unsupported_endpoint", 404, "This endpoint does not exist, or is not supported", None, Never;
    /// The endpoint exists, for another method.
    UnsupportedMethod = "unsupported_method", 405, "This endpoint does not support this method", None, Never;
    /// The consumer has no tier and there is no default one.
    NoTier = "no_tier", 403, "This key's consumer has no tier: ask the operator of this API for one", None, Never;
    /// The body has a content coding other than gzip, deflate, br and zstd, or more than one.
    ContentEncoding = "unsupported_encoding", 415, "This Content-Encoding is not supported: send one of gzip, deflate, br, zstd, or plain JSON", None, Never;
    /// The body is no JSON object.
    InvalidJson = "invalid_json", 400, "We could not parse the JSON body of your request", None, Never;
    /// A member of the body is missing or wrong; the message names it.
    InvalidRequest = "invalid_request", 400, "The request is not valid", None, Never;
    /// No such model.
    ModelNotFound = "model_not_found", 404, "The model does not exist", None, Never;
    /// The tier does not allow the model.
    ModelNotAllowed = "model_not_allowed", 403, "The model is not in your tier", None, Never;
    /// The tier does not allow a feature of the model, or a parameter.
    FeatureNotInTier = "feature_not_in_tier", 403, "The feature is not in your tier", None, Never;
    /// A limit of the tier over a day or longer, or a spend limit of any period, is used up.
    QuotaExhausted = "insufficient_quota", 429, "You exceeded your current quota", Limits, After;
    /// A rate limit of the configuration (`error_code` and `error_message` may replace status and message).
    RateLimited = "rate_limited", 429, "API rate limit exceeded", Limits, After;
    /// This process has no room for one more request.
    Overloaded = "overloaded", 503, "The gateway is at capacity", RetryAfter, After;
    /// Upstream's address refused the connection.
    UpstreamRefused = "upstream_refused", 502, "An invalid response was received from the upstream server", None, Soon;
    /// Upstream closed or reset the connection before a complete answer head.
    UpstreamReset = "upstream_reset", 502, "An invalid response was received from the upstream server", None, Unsafe;
    /// Upstream's answer is not HTTP.
    UpstreamGarbage = "upstream_garbage", 502, "An invalid response was received from the upstream server", None, Unsafe;
    /// The TLS handshake with upstream failed.
    UpstreamTls = "upstream_tls", 502, "An invalid response was received from the upstream server", None, Soon;
    /// Upstream's name does not resolve.
    UpstreamUnresolved = "upstream_unresolved", 503, "The upstream server is currently unavailable", None, Soon;
    /// Upstream is out after repeated connect failures (passive health).
    UpstreamOut = "upstream_out", 503, "The upstream server is currently unavailable", RetryAfter, After;
    /// No connection within the connect deadline.
    UpstreamConnectTimeout = "upstream_connect_timeout", 504, "The upstream server is timing out", None, Soon;
    /// No answer within the deadline, after the request was sent.
    UpstreamTimeout = "upstream_timeout", 504, "The upstream server is timing out", None, Unsafe;
    /// The client went away before its answer: nobody reads this row, logs and metrics tell it.
    ClientGone = "client_gone", 499, "The client closed the request", Close, Soon;
    /// The gateway is shutting down.
    Draining = "draining", 503, "The gateway is shutting down", Close, Soon;
    /// The gateway was shut down, and its patience was over, before the upstream had answered.
    Drained = "drained", 503, "The gateway was shut down before the answer came", Close, Unsafe;
    /// A defect of the gateway.
    Internal = "internal", 500, "An unexpected error occurred", None, Never;
    /// The request takes more than the whole of a limit: no wait helps.
    AboveLimit = "above_limit", 429, "The request takes more than one of its limits ever allows", None, Never;
    /// Every upstream of the model refused the gateway's own key (401, 402, 403 or 407); its answer stays behind.
    UpstreamAuth = "upstream_auth", 502, "The model's server refused the gateway's own credentials: your key is not at fault. The operator of this API finds the upstream in the gateway's log; its api_key, account or credit needs repair", None, Operator;
    /// An upstream of the model answered with a redirect, which is neither followed nor passed on.
    UpstreamRedirect = "upstream_redirect", 502, "The model's server answered with a redirect, which the gateway does not follow. The operator of this API has to put the final address into the url of the model's upstream", None, Operator;
    /// There is no way to upstream's address: no route, or its host does not answer.
    UpstreamUnreachable = "upstream_unreachable", 502, "An invalid response was received from the upstream server", None, Soon;
    /// The proxy that the environment names refused, or could not be reached.
    UpstreamProxy = "upstream_proxy", 502, "An invalid response was received from the upstream server", None, Soon;
    /// Upstream's host acknowledges nothing any more, after the request was sent.
    UpstreamVanished = "upstream_vanished", 504, "The upstream server is timing out", None, Unsafe;
    /// Upstream's answer has an unknown or broken content coding, or one whose content outgrows the bounds.
    UpstreamEncoding = "upstream_encoding", 502, "An invalid response was received from the upstream server", None, Unsafe;
    /// As many calls of the caller are in flight as its tier allows at once.
    ConcurrencyLimited = "concurrency_limit_exceeded", 429, "Too many calls at once", Limits, After;
    /// The prompt has more tokens than the tier allows in one request (`prompt.max_tokens`).
    PromptTooLong = "context_length_exceeded", 400, "The prompt has more tokens than your tier allows in one request", None, Never;
    /// The request may cost more than the tier allows for one request (`request.max_spend`).
    RequestTooDear = "request_max_spend_exceeded", 400, "The request may cost more than your tier allows for one request", None, Never;
    /// The ledger has no room for the call's row: its disk is full, or cannot be written.
    LedgerFull = "ledger_full", 503, "The gateway cannot record calls now", RetryAfter, After;
    /// The control process, which reads the ledger, does not answer this question.
    ControlAway = "control_unavailable", 503, "The gateway cannot read its ledger now: ask again soon. If this lasts, the operator of this API finds the cause in the log of the control process", RetryAfter, After;
    /// Upstream's name leads only to addresses that no upstream may have: link-local, multicast, metadata services (`AIGW_UPSTREAM_ALLOW`).
    UpstreamForbidden = "upstream_forbidden", 502, "An invalid response was received from the upstream server", None, Operator;
    /// The bodies that the worker holds for the caller have their part of its memory already.
    BodyMemory = "body_memory_exceeded", 429, "Too many large requests at once: wait for one to end", RetryAfter, After;
    /// The chunked body has more chunks than its bytes need.
    BodyInPieces = "body_in_pieces", 413, "The request body comes in too many small chunks: send chunks of 64 bytes or more, or a Content-Length", Close, Never;
    /// The request has passed this gateway, or others, too often: a route or a model leads back to it.
    LoopDetected = "loop_detected", 508, "The request came back to the gateway too often: a route or a model leads back to it", None, Operator;
    /// Another process of the machine called the port on which a worker takes the requests of its own TLS address.
    PrivatePort = "private_port", 421, "This port is the gateway's own: call its TLS address", Close, Never;
}

impl Reason {
    /// The row of this reason.
    pub const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// Machine name.
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// Default status.
    pub const fn status(self) -> u16 {
        self.row().status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_reason_finds_its_own_row() {
        for row in TABLE {
            assert_eq!(row.reason.row(), row);
        }
    }

    #[test]
    fn codes_are_unique_machine_names() {
        let codes: HashSet<_> = TABLE.iter().map(|r| r.code).collect();
        assert_eq!(codes.len(), TABLE.len());
        assert!(codes.iter().all(|c| c.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }

    #[test]
    fn statuses_are_refusals_and_advice_fits_the_headers() {
        for row in TABLE {
            assert!((400..600).contains(&row.status), "{}", row.code);
            let needs_time = matches!(row.extra, Extra::Limits | Extra::RetryAfter);
            assert_eq!(needs_time, row.retry == Retry::After, "{}", row.code);
            assert!(!(row.extra == Extra::Challenge && row.status != 401), "{}", row.code);
        }
    }
}
