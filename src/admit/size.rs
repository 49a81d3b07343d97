//! The bounds on a body's size: request-size-limiting on routes, the tier's on `/v1`.
//!
//! A declared length is judged with the head, the real one when the body is whole.

use crate::refusal::Reason;
use crate::request::BodyLength;
use crate::snapshot::SizeLimit;

/// Judges the length that a head declares.
pub fn declared(length: BodyLength, limit: Option<SizeLimit>) -> Result<(), Reason> {
    let Some(limit) = limit else { return Ok(()) };
    match length {
        BodyLength::Known(bytes) if bytes > limit.bytes => Err(Reason::SizeLimited),
        BodyLength::Chunked if limit.require_content_length => Err(Reason::LengthRequired),
        BodyLength::Known(_) | BodyLength::Chunked | BodyLength::None => Ok(()),
    }
}

/// Whether a body of `bytes` is larger than `most`; `most` is `None` without a bound.
pub fn is_above(bytes: u64, most: Option<u64>) -> bool {
    most.is_some_and(|most| bytes > most)
}
