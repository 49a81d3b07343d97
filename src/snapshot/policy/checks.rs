//! Checks that compiling routes and compiling tiers share: numbers, columns, addresses, ids.
//!
//! In: values of the wire form, and their positions. Out: their compiled form, or an error with the position.

use std::collections::HashMap;

use super::model::Timeouts;
use super::scheme::Scheme;
use super::wire::{self, ColumnKind};
use super::wire_common::{self, Protocol};
use crate::r#match::CanonicalPath;
use crate::price::{Above, MediaRates, Prices, Rates, SERVICE_TIERS, ServiceTier, Special};
use crate::snapshot::error::{Part, SnapshotError};
use crate::snapshot::uuid::{Uuid, parse_uuid};

/// Counter columns by number.
pub(super) type Columns = HashMap<u32, ColumnKind>;

/// Number -> index; numbers are unique and not 0.
pub(super) fn index(
    kind: &'static str,
    numbers: impl Iterator<Item = u32>,
) -> Result<HashMap<u32, usize>, SnapshotError> {
    let mut map = HashMap::new();
    for (at, n) in numbers.enumerate() {
        if n == 0 {
            return Err(value(Part::Item(kind, at), "n starts at 1"));
        }
        if map.insert(n, at).is_some() {
            return Err(SnapshotError::Twice(Part::Entity(kind, n)));
        }
    }
    Ok(map)
}

/// The columns by number; a number is unique, and a dense column has words.
pub(super) fn columns(columns: Vec<wire::Column>) -> Result<Columns, SnapshotError> {
    let mut map = HashMap::with_capacity(columns.len());
    for wire::Column { n, kind, words, key: _ } in columns {
        if kind == ColumnKind::Dense && words == 0 {
            return Err(value(Part::Entity("column", n), "a dense column has at least one word"));
        }
        if map.insert(n, kind).is_some() {
            return Err(SnapshotError::Twice(Part::Entity("column", n)));
        }
    }
    Ok(map)
}

/// The compiled form of a protocol.
pub(super) fn scheme(from: Protocol) -> Scheme {
    match from {
        Protocol::Http => Scheme::Http,
        Protocol::Https => Scheme::Https,
    }
}

/// The compiled form of prices.
pub(super) fn prices(at: Part, from: wire_common::Prices) -> Result<Prices, SnapshotError> {
    let wire_common::Prices { input, cached_input, cache_write, output, reasoning, request, special } = from;
    let base = Prices { input, cached_input, cache_write, output, reasoning, request, special: None };
    let Some(wire_common::Special { media, above, service_tiers }) = special else { return Ok(base) };
    let mut special =
        Special { media: media_rates(media), above: above.map(above_rates), ..Special::plain(input, output) };
    for (name, factor) in service_tiers {
        let known = special.factors.get_mut(ServiceTier::of_name(&name) as usize).filter(|_| is_service_tier(&name));
        *known.ok_or_else(|| value(at, "service_tiers must be names of service tiers"))? = factor;
    }
    Ok(base.with(special))
}

/// Prices from their JSON in a policy.
pub fn prices_of(json: &[u8]) -> Result<Prices, SnapshotError> {
    prices(Part::Whole, serde_json::from_slice(json)?)
}

fn is_service_tier(name: &str) -> bool {
    SERVICE_TIERS.iter().any(|(known, _)| *known == name)
}

fn above_rates(from: wire_common::Above) -> Above {
    let wire_common::Above { tokens, input, cached_input, cache_write, output, reasoning, media } = from;
    Above { tokens, rates: Rates { input, cached_input, cache_write, output, reasoning, media: media_rates(media) } }
}

fn media_rates(from: wire_common::Media) -> MediaRates {
    let wire_common::Media { image_input, audio_input, image_output, audio_output } = from;
    MediaRates { image_input, audio_input, image_output, audio_output }
}

/// Checks the parts of an address.
pub(super) fn address(at: Part, host: &str, port: u16, path: Option<&str>) -> Result<(), SnapshotError> {
    if host.is_empty() || host.bytes().any(|b| b <= b' ' || b >= 0x7f || matches!(b, b'/' | b'?' | b'#' | b'@' | b'\\'))
    {
        return Err(value(at, "host must be a name or an address"));
    }
    if port == 0 {
        return Err(value(at, "port must be 1 to 65535"));
    }
    if path.is_some_and(|path| !address_path(path)) {
        return Err(value(at, PATH));
    }
    Ok(())
}

/// Checks the bounds of calls.
pub(super) fn timeouts(at: Part, times: Timeouts) -> Result<Timeouts, SnapshotError> {
    let Timeouts { connect_ms, first_byte_ms, between_ms, total_ms } = times;
    if [connect_ms, first_byte_ms, between_ms, total_ms].contains(&Some(0)) {
        return Err(value(at, "timeouts must be above 0"));
    }
    Ok(times)
}

/// Why the path of an address is refused.
pub(super) const PATH: &str = "path must start with \"/\", be canonical and percent-encoded";

/// Whether an address may have this path.
pub(super) fn address_path(path: &str) -> bool {
    CanonicalPath::new(path).is_ok() && !path.bytes().any(|b| b <= b' ' || b >= 0x7f || matches!(b, b'?' | b'#'))
}

/// Checks a reference to a column of this kind.
pub(super) fn column(
    at: Part,
    columns: &Columns,
    n: Option<u32>,
    kind: ColumnKind,
    needed: bool,
) -> Result<(), SnapshotError> {
    match n {
        None if needed => Err(value(at, "a limit lacks the column its limit_by needs")),
        None => Ok(()),
        Some(n) => match columns.get(&n) {
            Some(found) if *found == kind => Ok(()),
            _ => Err(SnapshotError::Dangling { from: at, kind: "column", to: u64::from(n) }),
        },
    }
}

/// An entity's id.
pub(super) fn uuid(text: &str, at: Part) -> Result<Uuid, SnapshotError> {
    parse_uuid(text).ok_or_else(|| value(at, "id must be a UUID"))
}

/// A value outside its range.
pub(super) fn value(at: Part, why: &str) -> SnapshotError {
    SnapshotError::Value { at, why: why.to_owned() }
}
