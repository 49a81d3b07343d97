//! Judges a head that the server let through, before any other stage looks at it.
//!
//! In: a [`Head`]. Out: the length of its body, or the reason of the refusal: one `Host`, one framing, no CONNECT or TRACE,
//! a bounded number of header bytes and of gateways on the way. It reads no body.

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
    /// How often a gateway passed the request on before.
    pub passes: u8,
}

/// The header that counts how often a gateway has passed a request on.
pub const PASSES: &str = "x-aigw-passes";
/// A request that was passed on so often is refused with 508. A chain of gateways has two or three, a loop has no end.
pub const MAX_PASSES: u8 = 8;

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
    let (mut length, mut closes, mut passes) = (BodyLength::None, head.http10, 0);
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
            PASSES => passes = passes.max(passes_of(value)),
            "via" => passes = passes.max(gateways_in(value)),
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
    if passes >= MAX_PASSES {
        return Err(Reason::LoopDetected);
    }
    Ok(Framing { length, closes, passes })
}

/// The highest count in a header of passes. Only the gateway lowers nothing: a caller's count is a start above zero, and text that
/// is no count changes nothing.
fn passes_of(value: &str) -> u8 {
    let counts = value.split(',').map(str::trim).filter(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
    counts.filter(|word| !word.is_empty()).map(|word| word.parse().unwrap_or(u8::MAX)).max().unwrap_or(0)
}

/// The gateways that a `Via` names: servers on the way that drop the header of passes keep this one.
fn gateways_in(via: &str) -> u8 {
    let gateways = via.split(',').filter(|hop| hop.trim().split(' ').nth(1).is_some_and(|by| by.starts_with("aigw/")));
    u8::try_from(gateways.count()).unwrap_or(u8::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_the_highest_count() {
        for (value, passes) in [
            ("", 0),
            ("3", 3),
            ("0, 5 ,2", 5),
            ("5,x", 5),
            ("x", 0),
            ("-9", 0),
            ("+9", 0),
            ("007", 7),
            ("256", 255),
            ("99999999999999999999", 255),
        ] {
            assert_eq!(passes_of(value), passes, "{value}");
        }
    }

    #[test]
    fn gateways_are_counted_in_via() {
        for (value, gateways) in
            [("", 0), ("1.1 aigw/0.1.0", 1), ("1.1 a, 1.1 aigw/1 (x), 2 aigw/2", 2), ("aigw/1", 0), ("1.1 aigwx", 0)]
        {
            assert_eq!(gateways_in(value), gateways, "{value}");
        }
    }
}
