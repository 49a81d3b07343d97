//! Whether another target may be asked after one has failed.
//!
//! In: the failure or the answer of a target. A request that an upstream may have begun to work on is not sent twice:
//! another target is asked only after a failure before sending, or after a whole refusal.

use http::StatusCode;

/// Whether this whole answer of an upstream is a refusal that another target may not share.
pub fn after_answer(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE)
}
