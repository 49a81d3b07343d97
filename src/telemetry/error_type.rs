//! The reasons for which a model's call failed, as metrics and the access log name them: `error_type`.
//!
//! In: the gateway's own reason, the status of an upstream's answer, or the fault inside a successful answer. Out: one of a
//! fixed list, so that no upstream can make new series. Rare statuses share `4xx` and `5xx`.
//! Source: OpenTelemetry's attribute `error.type`, which is absent from calls that succeeded.

use crate::refusal::Reason;

/// The kinds of errors that metrics have room for.
pub const ERROR_TYPES: u32 = 40;
/// The names, by number. Data folders hold counts by number: new names come last.
const NAMES: &[&str] = &[
    // Everything without a name of its own, as OpenTelemetry calls it.
    "_OTHER",
    "error_in_answer",
    "empty_stream",
    "upstream_refused",
    "upstream_reset",
    "upstream_garbage",
    "upstream_tls",
    "upstream_unresolved",
    "upstream_out",
    "upstream_connect_timeout",
    "upstream_timeout",
    "upstream_auth",
    "upstream_redirect",
    "client_gone",
    "draining",
    "drained",
    "overloaded",
    "internal",
    "4xx",
    "5xx",
    "400",
    "404",
    "408",
    "409",
    "413",
    "422",
    "429",
    "500",
    "502",
    "503",
    "504",
    "529",
    "upstream_unreachable",
    "upstream_proxy",
    "upstream_vanished",
    "upstream_encoding",
    "upstream_forbidden",
    "empty_answer",
    "client_stalled",
];
const _: () = assert!(NAMES.len() <= ERROR_TYPES as usize, "each error type has its words");

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorType(u32);

impl ErrorType {
    /// Everything without a name of its own.
    pub(super) const OTHER: Self = Self(0);
    /// An error inside a successful answer.
    pub const IN_ANSWER: Self = Self(1);
    /// A successful stream without an event.
    pub const EMPTY_STREAM: Self = Self(2);
    /// A successful plain answer without a body.
    pub const EMPTY_ANSWER: Self = Self(37);
    /// A client that did not read its answer.
    pub const CLIENT_STALLED: Self = Self(38);

    /// The reason of the gateway's own refusal, or of a cut.
    #[must_use]
    pub fn of_reason(reason: Reason) -> Self {
        Self::named(reason.code())
    }

    /// The status of an upstream's answer; `None` for a success.
    #[must_use]
    pub fn of_status(status: u16) -> Option<Self> {
        let class = match status {
            0..400 => return None,
            400..500 => "4xx",
            _ => "5xx",
        };
        let own = NAMES.iter().find(|name| name.parse() == Ok(status));
        Some(Self::named(own.copied().unwrap_or(class)))
    }

    /// The label's value.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.get(self.0 as usize).copied().unwrap_or(NAMES[0])
    }

    /// Its number, below [`ERROR_TYPES`].
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// All of them.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..).take(NAMES.len()).map(Self)
    }

    /// The error type with this number.
    pub(super) fn numbered(number: u32) -> Option<Self> {
        NAMES.get(number as usize).map(|_| Self(number))
    }

    fn named(name: &str) -> Self {
        Self((0..).zip(NAMES).find(|(_, own)| **own == name).map_or(0, |(number, _)| number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::TABLE;

    #[test]
    fn each_failure_of_an_upstream_has_a_name() {
        let upstreams: Vec<_> = TABLE.iter().filter(|row| row.code.starts_with("upstream_")).collect();
        assert!(upstreams.iter().all(|row| ErrorType::of_reason(row.reason).name() == row.code));
        assert_eq!(ErrorType::of_reason(Reason::NoRoute).name(), "_OTHER");
        assert_eq!((ErrorType::IN_ANSWER.name(), ErrorType::EMPTY_STREAM.name()), ("error_in_answer", "empty_stream"));
        assert_eq!(ErrorType::EMPTY_ANSWER.name(), "empty_answer");
        assert_eq!(ErrorType::CLIENT_STALLED.name(), "client_stalled");
    }

    #[test]
    fn a_status_is_named_or_falls_to_its_class() {
        for (status, name) in [(400, "400"), (418, "4xx"), (429, "429"), (500, "500"), (529, "529"), (999, "5xx")] {
            assert_eq!(ErrorType::of_status(status).map(ErrorType::name), Some(name));
        }
        assert_eq!((ErrorType::of_status(0), ErrorType::of_status(200), ErrorType::of_status(302)), (None, None, None));
    }
}
