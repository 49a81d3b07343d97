//! Judges a head that the server let through, before any other stage looks at it.
//!
//! In: a [`Head`]. Out: the length of its body, or the reason of the refusal: one `Host`, one framing, no CONNECT or TRACE,
//! a bounded number of header bytes. It reads no body.

use http::Method;

use crate::coding::Coding;
use crate::refusal::Reason;
use crate::request::{BodyLength, Head};

/// More header bytes (names and values) are refused with 431: as many as nginx takes by default (4 buffers of 8 KiB).
pub const MAX_HEADER_BYTES: usize = 32 * 1024;
/// More headers are refused with 431: as many as Kong reads by default.
pub const MAX_HEADERS: usize = 100;

/// The framing of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framing {
    /// The length of its body.
    pub length: BodyLength,
    /// The client ends the connection after the answer.
    pub closes: bool,
}

/// Judges a head and returns its framing.
pub fn judge(head: &Head) -> Result<Framing, Reason> {
    let (count, bytes) = head.headers.size();
    if count > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        return Err(Reason::HeadersTooLarge);
    }
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(Reason::MethodRefused);
    }
    let (mut hosts, mut lengths, mut codings) = (0, 0, 0);
    let (mut length, mut closes) = (BodyLength::None, head.http10);
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
            "connection" => closes |= value.split(',').any(|word| word.trim().eq_ignore_ascii_case("close")),
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
    Ok(Framing { length, closes })
}

/// The coding of the body; `None`: it is plain. A coding that the gateway does not read, and a list of them, are refused.
pub fn coding(head: &Head) -> Result<Option<Coding>, Reason> {
    let mut found = None;
    for (_, value) in head.headers.iter().filter(|(name, _)| *name == "content-encoding") {
        if value.trim().is_empty() || value.trim().eq_ignore_ascii_case("identity") {
            continue;
        }
        if found.replace(Coding::of(value).ok_or(Reason::ContentEncoding)?).is_some() {
            return Err(Reason::ContentEncoding);
        }
    }
    Ok(found)
}
