//! The body of a refusal on Kong's routes, in the form the client asked for.
//!
//! In: the request's `Accept` value, the message, the request id. Out: a [`Form`] and its bytes, in Kong's exact shape.
//! Invariant: text that configuration or a client could shape is escaped for its form; the JSON form is always safe to
//! fall back to. It does not choose status or headers (see `answer`).

use std::fmt::Write as _;

/// The form of an error body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `application/json`: the default.
    Json,
    /// `text/html`.
    Html,
    /// `application/xml`.
    Xml,
    /// `text/plain`.
    Plain,
}

impl Form {
    /// The `Content-Type` of this form.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Xml => "application/xml; charset=utf-8",
            Self::Plain => "text/plain; charset=utf-8",
        }
    }

    /// Picks by `Accept` with q-values: the highest q wins, at equal q the first named. Unknown types, `*/*`, a missing
    /// or unreadable header, and `q=0` everywhere give JSON.
    pub fn from_accept(accept: Option<&str>) -> Self {
        let mut best = (0_u32, Self::Json);
        for item in accept.unwrap_or("").split(',') {
            let mut parts = item.split(';');
            let Some(form) = parts.next().and_then(|t| Self::of_type(t.trim())) else { continue };
            let q = parts.find_map(quality).unwrap_or(1000);
            if q > best.0 {
                best = (q, form);
            }
        }
        best.1
    }

    fn of_type(text: &str) -> Option<Self> {
        const TYPES: [(&str, Form); 8] = [
            ("application/json", Form::Json),
            ("*/*", Form::Json),
            ("application/*", Form::Json),
            ("text/html", Form::Html),
            ("text/*", Form::Html),
            ("application/xml", Form::Xml),
            ("text/xml", Form::Xml),
            ("text/plain", Form::Plain),
        ];
        TYPES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, form)| *form)
    }
}

/// The q-value of one `Accept` parameter in thousandths; `None` when the parameter is another one.
fn quality(parameter: &str) -> Option<u32> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, digits) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let one = match whole {
        "0" => 0,
        "1" => return Some(1000),
        _ => return Some(0),
    };
    let mut thousandths = one;
    let mut unit = 100;
    for digit in digits.bytes().take(3) {
        if !digit.is_ascii_digit() {
            return Some(0);
        }
        thousandths += u32::from(digit - b'0') * unit;
        unit /= 10;
    }
    Some(thousandths)
}

/// The body in this form. `request_id` is the gateway's own (hex), so it needs no escaping.
pub fn render(form: Form, message: &str, request_id: &str) -> String {
    let mut out = String::with_capacity(message.len() + request_id.len() + 64);
    match form {
        Form::Json => {
            out.push_str("{\n  \"message\":\"");
            json_escaped(&mut out, message);
            out.push_str("\",\n  \"request_id\":\"");
            out.push_str(request_id);
            out.push_str("\"\n}");
        }
        Form::Html => {
            out.push_str("<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    <title>Error</title>\n  </head>\n  <body>\n    <h1>Error</h1>\n    <p>");
            markup_escaped(&mut out, message);
            out.push_str(".</p>\n    <p>request_id: ");
            out.push_str(request_id);
            out.push_str("</p>\n  </body>\n</html>\n");
        }
        Form::Xml => {
            out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>");
            markup_escaped(&mut out, message);
            out.push_str("</message>\n  <requestid>");
            out.push_str(request_id);
            out.push_str("</requestid>\n</error>");
        }
        Form::Plain => {
            out.push_str(message);
            out.push_str("\nrequest_id: ");
            out.push_str(request_id);
            out.push('\n');
        }
    }
    out
}

fn json_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

/// Escapes for HTML and XML text; characters that XML 1.0 cannot hold become U+FFFD.
fn markup_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn json_is_kongs_exact_shape() {
        assert_eq!(
            render(Form::Json, "No API key found in request", "0123456789abcdef0123456789abcdef"),
            "{\n  \"message\":\"No API key found in request\",\n  \"request_id\":\"0123456789abcdef0123456789abcdef\"\n}"
        );
        assert_eq!(render(Form::Plain, "m", "i"), "m\nrequest_id: i\n");
        assert!(render(Form::Xml, "m", "i").contains("<error>\n  <message>m</message>\n  <requestid>i</requestid>"));
    }

    /// The bytes that clients have always seen: `serde_json` would write `\t`, `\r` and a bare DEL.
    #[test]
    fn json_escapes_keep_their_form() {
        let body = render(Form::Json, "\"\\\n\t\r\u{8}\u{c}\u{1f}\u{7f}/é", "i");
        let message = r#""message":"\"\\\n\u0009\u000d\u0008\u000c\u001f\u007f/é","#;
        assert!(body.contains(message), "{body}");
    }

    #[test]
    fn accept_is_read_with_q_values() {
        for (accept, form) in [
            (None, Form::Json),
            (Some("*/*"), Form::Json),
            (Some("image/png"), Form::Json),
            (Some("text/html"), Form::Html),
            (Some("TEXT/HTML; charset=utf-8"), Form::Html),
            (Some("text/html;q=0.5, application/xml;q=0.9"), Form::Xml),
            (Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), Form::Html),
            (Some("text/plain;q=0.3, application/json;q=0.2"), Form::Plain),
            (Some("text/html;q=0"), Form::Json),
            (Some("text/html;q=x, text/plain;q=0.001"), Form::Plain),
            (Some(",;=,q"), Form::Json),
        ] {
            assert_eq!(Form::from_accept(accept), form, "{accept:?}");
        }
    }

    proptest! {
        #[test]
        fn any_message_survives_json(message in any::<String>()) {
            let body: serde_json::Value = serde_json::from_str(&render(Form::Json, &message, "ab")).unwrap();
            prop_assert_eq!(body["message"].as_str().unwrap(), message);
        }

        #[test]
        fn no_message_adds_markup(message in any::<String>()) {
            for form in [Form::Html, Form::Xml] {
                prop_assert_eq!(
                    render(form, &message, "ab").matches('<').count(),
                    render(form, "", "ab").matches('<').count()
                );
            }
        }

        #[test]
        fn any_accept_is_read_without_fault(accept in any::<String>()) {
            Form::from_accept(Some(&accept));
        }
    }
}
