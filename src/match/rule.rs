//! The conditions of a route, in compiled form.
//!
//! In: strings of the configuration. Out: a [`RouteRule`]: conditions that are AND-ed across fields, OR-ed inside one; an
//! unset field holds for any request. Invariant: a rule that was built can be evaluated without failing.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};

use super::canonical;

/// Why a rule cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// Not a regular expression we can run (no look-around, no back-references).
    #[error("\"{pattern}\" is not a supported regular expression: {why}")]
    Regex {
        /// As written.
        pattern: String,
        /// The parser's reason.
        why: String,
    },
    /// Not a host, or more than one wildcard.
    #[error("\"{0}\" is no host: give a name, \"*.name\" or \"name.*\", with an optional port")]
    Host(String),
    /// Not a path.
    #[error(
        "\"{0}\" is no path: it must start with \"/\" (or \"~/\" for a regular expression) and be in canonical form"
    )]
    Path(String),
    /// A route without any condition would match everything.
    #[error("at least one of methods, hosts, headers, paths is required")]
    Unconditional,
}

/// One host of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRule {
    /// Lower case; for wildcards the fixed part with its dot (`.example.com`, `example.`).
    pub text: Box<str>,
    /// The side of the wildcard.
    pub kind: HostKind,
    /// The port the request must name (or use by default of its scheme).
    pub port: Option<u16>,
}

/// How a host is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKind {
    /// The whole name.
    Exact,
    /// `*.example.com`.
    Suffix,
    /// `example.*`.
    Prefix,
}

impl HostRule {
    /// Reads `name[:port]` with at most one leading or trailing `*`.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let bad = || RuleError::Host(text.to_owned());
        let lower = text.to_ascii_lowercase();
        let (name, port) = match lower.rsplit_once(':') {
            Some((name, digits)) if !name.ends_with(':') && !digits.contains(']') => {
                (name, Some(digits.parse::<u16>().map_err(|_| bad())?))
            }
            _ => (lower.as_str(), None),
        };
        let (fixed, kind) = match (name.strip_prefix('*'), name.strip_suffix('*')) {
            (Some(rest), None) if rest.starts_with('.') => (rest, HostKind::Suffix),
            (None, Some(rest)) if rest.ends_with('.') => (rest, HostKind::Prefix),
            (None, None) => (name, HostKind::Exact),
            _ => return Err(bad()),
        };
        if fixed.len() < 2 && kind != HostKind::Exact || fixed.is_empty() || fixed.contains(['*', '/', ' ']) {
            return Err(bad());
        }
        Ok(Self { text: fixed.into(), kind, port })
    }

    /// True when the lower-case host and the effective port satisfy this rule.
    pub fn holds(&self, host: &str, port: u16) -> bool {
        self.port.is_none_or(|wanted| wanted == port)
            && match self.kind {
                HostKind::Exact => *host == *self.text,
                HostKind::Suffix => host.len() > self.text.len() && host.ends_with(&*self.text),
                HostKind::Prefix => host.len() > self.text.len() && host.starts_with(&*self.text),
            }
    }
}

/// One path of a route.
#[derive(Debug, Clone)]
pub enum PathRule {
    /// Percent-decoded prefix.
    Prefix(Box<str>),
    /// Anchored at the start of the decoded path.
    Regex(Regex),
}

impl PathRule {
    /// Reads `/prefix` or `~/regex`.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        if let Some(pattern) = text.strip_prefix('~') {
            return regex("^(?:", pattern, ")").map(Self::Regex);
        }
        let bad = || RuleError::Path(text.to_owned());
        let decoded = match canonical::decode(text) {
            Cow::Borrowed(_) => text.to_owned(),
            Cow::Owned(bytes) => String::from_utf8(bytes).map_err(|_| bad())?,
        };
        canonical::CanonicalPath::new(&decoded).map_err(|_| bad())?;
        Ok(Self::Prefix(decoded.into()))
    }

    /// The number of bytes of the path that this rule covers, when it holds.
    pub fn covers(&self, path: &str) -> Option<usize> {
        match self {
            Self::Prefix(prefix) => path.starts_with(&**prefix).then_some(prefix.len()),
            Self::Regex(regex) => regex.find(path).map(|found| found.end()),
        }
    }
}

/// One wanted value of a header.
#[derive(Debug, Clone)]
pub enum ValueRule {
    /// Equal when both are lower-cased.
    Equal(Box<str>),
    /// `~*pattern`: found anywhere, without regard to case.
    Regex(Regex),
}

impl ValueRule {
    /// Reads a value, or `~*` and a pattern.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        match text.strip_prefix("~*") {
            Some(pattern) => regex("(?i)", pattern, "").map(Self::Regex),
            None => Ok(Self::Equal(text.to_lowercase().into())),
        }
    }

    /// True when the value satisfies this rule.
    pub fn holds(&self, value: &str) -> bool {
        match self {
            Self::Equal(wanted) if value.is_ascii() => value.eq_ignore_ascii_case(wanted),
            Self::Equal(wanted) => value.to_lowercase() == **wanted,
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// Builds `as_written` between two texts.
pub(crate) fn regex(before: &str, as_written: &str, after: &str) -> Result<Regex, RuleError> {
    // Parse the expression alone first: an unbalanced `)` must be an error, although the surrounding text would balance it.
    let alone = regex_syntax::parse(as_written).map_err(|error| regex::Error::Syntax(error.to_string()));
    // The bound keeps one route from using the memory of a thousand.
    let build = |_| RegexBuilder::new(&format!("{before}{as_written}{after}")).size_limit(1 << 20).build();
    alone.and_then(build).map_err(|error| {
        let message = error.to_string();
        // The parser's message ends with its reason, below a drawing.
        let why = message.lines().last().unwrap_or(&message).trim_start_matches("error: ").to_owned();
        RuleError::Regex { pattern: as_written.to_owned(), why }
    })
}

/// A lower-case header name and its wanted values.
pub type HeaderRule = (Box<str>, Box<[ValueRule]>);

/// All conditions of one route, and its order among other routes.
#[derive(Debug, Clone)]
pub struct RouteRule {
    /// Upper-case methods; empty: any.
    pub methods: Box<[Box<str>]>,
    /// Hosts; empty: any.
    pub hosts: Box<[HostRule]>,
    /// Paths; empty: any.
    pub paths: Box<[PathRule]>,
    /// Lower-case header names with their wanted values; empty: any.
    pub headers: Box<[HeaderRule]>,
    /// Orders regex paths among each other; higher first.
    pub regex_priority: i64,
    /// Unix seconds; the older one of two equal routes runs.
    pub created_at: i64,
}

impl RouteRule {
    /// The number of condition kinds that the route has.
    pub fn categories(&self) -> u8 {
        u8::from(!self.methods.is_empty())
            + u8::from(!self.hosts.is_empty())
            + u8::from(!self.headers.is_empty())
            + u8::from(!self.paths.is_empty())
    }

    /// True when hosts are given and none has a wildcard.
    pub fn plain_hosts(&self) -> bool {
        !self.hosts.is_empty() && self.hosts.iter().all(|h| h.kind == HostKind::Exact)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hosts() {
        let any = HostRule::parse("*.Example.com").unwrap();
        assert!(any.holds("a.example.com", 80) && any.holds("a.b.example.com", 1));
        assert!(!any.holds("example.com", 80) && !any.holds(".example.com", 80));
        let port = HostRule::parse("example.com:8080").unwrap();
        assert!(port.holds("example.com", 8080) && !port.holds("example.com", 80));
        assert!(HostRule::parse("example.*").unwrap().holds("example.org", 80));
        assert!(HostRule::parse("[::1]").unwrap().holds("[::1]", 80));
        for bad in ["", "*", "*.", ".*", "*.a.*", "a.*.b", "a:x", "*a", "a*", "a b"] {
            assert!(HostRule::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths() {
        assert_eq!(PathRule::parse("/a%20b").unwrap().covers("/a bc"), Some(4));
        assert_eq!(PathRule::parse("~/v\\d+").unwrap().covers("/v12/x"), Some(4));
        assert_eq!(PathRule::parse("~/a|/b").unwrap().covers("/x/b"), None);
        for bad in ["", "a", "/a//b", "/a/../b", "~/(", "~/a)|(b", "~/(?=a)", "/%2e%2e/", "/%00"] {
            assert!(PathRule::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn header_values() {
        assert!(ValueRule::parse("V1").unwrap().holds("v1"));
        assert!(ValueRule::parse("~*^v[23]$").unwrap().holds("V3"));
        assert!(!ValueRule::parse("~*^v[23]$").unwrap().holds("v4"));
    }
}
