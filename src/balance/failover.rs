//! Whether another target may be asked after one has failed.
//!
//! A request that an upstream may have begun to work on is not sent twice: only a failure before sending, or a whole refusal,
//! leaves no doubt.

use http::StatusCode;

/// Whether this answer of an upstream, read to its end, is a refusal that another may not share.
pub fn after_answer(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE)
}
