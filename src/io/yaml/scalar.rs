//! The value of a plain scalar: YAML 1.2's core schema, without values that JSON cannot hold.
//!
//! In: the text of an unquoted scalar. Out: null, a boolean, a number or text. Stricter than the schema where people
//! and YAML versions disagree: `0123` is text (octal to some), and so are `.inf`, `.nan` and floats that overflow.

use super::document::Content;

/// The meaning of a plain scalar; `None` is text. `Err` is a whole number beyond 64 bits.
pub(super) fn resolve(text: &str) -> Result<Option<Content>, ()> {
    Ok(Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Content::Null,
        "true" | "True" | "TRUE" => Content::Bool(true),
        "false" | "False" | "FALSE" => Content::Bool(false),
        _ => return number(text),
    }))
}

fn number(text: &str) -> Result<Option<Content>, ()> {
    if let Some(digits) = text.strip_prefix("0x").filter(|d| all(d, |c| c.is_ascii_hexdigit())) {
        return i64::from_str_radix(digits, 16).map(|n| Some(Content::Int(n))).map_err(drop);
    }
    if let Some(digits) = text.strip_prefix("0o").filter(|d| all(d, |c| (b'0'..=b'7').contains(&c))) {
        return i64::from_str_radix(digits, 8).map(|n| Some(Content::Int(n))).map_err(drop);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let bytes = unsigned.as_bytes();
    if !bytes.first().is_some_and(|c| c.is_ascii_digit() || *c == b'.') {
        return Ok(None);
    }
    let whole = bytes.iter().take_while(|c| c.is_ascii_digit()).count();
    if whole > 1 && bytes[0] == b'0' {
        return Ok(None);
    }
    if whole == bytes.len() {
        return text.parse().map(|n| Some(Content::Int(n))).map_err(drop);
    }
    if !is_float(bytes, whole) {
        return Ok(None);
    }
    Ok(text.parse().ok().filter(|n: &f64| n.is_finite()).map(Content::Float))
}

/// Digits and a dot in any of the orders that make a number, then maybe an exponent.
fn is_float(bytes: &[u8], whole: usize) -> bool {
    let mut rest = &bytes[whole..];
    let mut digits = whole;
    if let Some(after) = rest.strip_prefix(b".") {
        let fraction = after.iter().take_while(|c| c.is_ascii_digit()).count();
        digits += fraction;
        rest = &after[fraction..];
    }
    if digits == 0 {
        return false;
    }
    match rest {
        [] => true,
        [b'e' | b'E', exponent @ ..] => {
            let exponent = exponent.strip_prefix(b"+").or(exponent.strip_prefix(b"-")).unwrap_or(exponent);
            !exponent.is_empty() && exponent.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    }
}

fn all(text: &str, test: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(test)
}
