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

/// The bound that both hold: that of an instance, and the bytes of a tier.
pub fn stricter(limit: Option<SizeLimit>, bytes: Option<u64>) -> Option<SizeLimit> {
    match (limit, bytes) {
        (Some(limit), Some(bytes)) => Some(SizeLimit { bytes: limit.bytes.min(bytes), ..limit }),
        (None, Some(bytes)) => Some(SizeLimit { bytes, require_content_length: false }),
        (limit, None) => limit,
    }
}

/// Whether a body of `bytes` is larger than `most`; `most` is `None` without a bound.
pub fn is_above(bytes: u64, most: Option<u64>) -> bool {
    most.is_some_and(|most| bytes > most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_length_passes_up_to_the_bound() {
        let limit = |require_content_length| Some(SizeLimit { bytes: 100, require_content_length });
        for (bytes, wanted) in [(0, Ok(())), (99, Ok(())), (100, Ok(())), (101, Err(Reason::SizeLimited))] {
            assert_eq!(declared(BodyLength::Known(bytes), limit(true)), wanted);
            assert_eq!(is_above(bytes, Some(100)), wanted.is_err());
        }
        assert_eq!(declared(BodyLength::Chunked, limit(true)), Err(Reason::LengthRequired));
        assert_eq!(declared(BodyLength::Chunked, limit(false)), Ok(()));
        assert_eq!(declared(BodyLength::None, limit(true)), Ok(()));
        assert_eq!(declared(BodyLength::Known(u64::MAX), None), Ok(()));
        assert!(!is_above(u64::MAX, None));
        assert_eq!(stricter(limit(true), Some(7)).map(|one| one.bytes), Some(7));
        assert_eq!(stricter(limit(true), Some(700)), limit(true));
        assert_eq!(stricter(None, Some(7)), Some(SizeLimit { bytes: 7, require_content_length: false }));
        assert_eq!(stricter(limit(false), None), limit(false));
    }
}
