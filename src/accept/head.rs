//! Judges a head that the server let through, before any other stage looks at it.
//!
//! In: a [`Head`]. Out: the length of its body, or the reason of the refusal: one `Host`, one framing, no CONNECT or TRACE,
//! a bounded number of header bytes. It reads no body.

use http::Method;

use crate::refusal::Reason;
use crate::request::{BodyLength, Head};

/// More header bytes (names and values) are refused with 431: as many as nginx takes by default (4 buffers of 8 KiB).
pub const MAX_HEADER_BYTES: usize = 32 * 1024;
/// More headers are refused with 431: as many as Kong reads by default.
pub const MAX_HEADERS: usize = 100;

/// Judges a head and returns the length of its body.
pub fn judge(head: &Head) -> Result<BodyLength, Reason> {
    let (count, bytes) = head.headers.size();
    if count > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        return Err(Reason::HeadersTooLarge);
    }
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(Reason::MethodRefused);
    }
    let (mut hosts, mut lengths, mut codings) = (0, 0, 0);
    let mut length = BodyLength::None;
    for (name, value) in head.headers.iter() {
        match name {
            "host" => hosts += 1,
            "content-length" => {
                lengths += 1;
                match value.parse::<u64>() {
                    Ok(0) => {}
                    Ok(n) => length = BodyLength::Known(n),
                    Err(_) => return Err(Reason::BadFraming),
                }
            }
            "transfer-encoding" => {
                codings += 1;
                if !value.eq_ignore_ascii_case("chunked") {
                    return Err(Reason::BadFraming);
                }
                length = BodyLength::Chunked;
            }
            _ => {}
        }
    }
    if hosts > 1 || (hosts == 0 && !head.http10) {
        return Err(Reason::BadHost);
    }
    if let (Some(authority), Some(host)) = (&head.authority, head.headers.get("host"))
        && !authority.eq_ignore_ascii_case(host)
    {
        return Err(Reason::BadHost);
    }
    if lengths > 1 || codings > 1 || (lengths > 0 && codings > 0) {
        return Err(Reason::BadFraming);
    }
    Ok(length)
}

/// Refuses a compressed body: the gateway could not read its deciding words.
pub fn encoding(head: &Head) -> Result<(), Reason> {
    match head.headers.get("content-encoding") {
        Some(coding) if !coding.eq_ignore_ascii_case("identity") => Err(Reason::ContentEncoding),
        _ => Ok(()),
    }
}
