//! Which instance of a plugin runs for one route and one consumer (one per plugin name, as in Kong).
//!
//! In: the route's base instance with its rank, the consumer's own references, and whether the request came over TLS. Out: the profile
//! of the highest rank that applies. Invariant: an instance bound to a route, a service or a protocol never runs elsewhere, and a reference
//! that the policy cannot resolve is an error, never "no limit".

use super::compiled::{Policy, Profile, Route, RouteInstance, SizeLimit};
use crate::snapshot::keys::{PluginKind, Ref, Refs};

/// A consumer refers to a profile that the policy does not have: refuse with `internal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a consumer refers to plugin profile {profile}, which this policy does not have")]
pub struct BrokenRef {
    /// The index.
    pub profile: u32,
}

/// Kong's precedence of an instance bound to a consumer; `None` when it does not apply to this route.
fn rank(own: Ref, route: &Route) -> Option<u8> {
    let on_route = own.route == route.n;
    let on_service = own.service == route.service_n && own.service != 0;
    match (own.route, own.service) {
        (0, 0) => Some(4),
        (0, _) if on_service => Some(6),
        (_, 0) if on_route => Some(7),
        (_, _) if own.route != 0 && on_route && on_service => Some(8),
        _ => None,
    }
}

/// The profile of this kind that runs, by index.
fn chosen(kind: PluginKind, base: Option<RouteInstance>, route: &Route, refs: Refs<'_>, tls: bool) -> Option<u32> {
    let mut best = base.map(|base| (base.rank, base.profile));
    for own in refs.iter().filter(|own| own.is(kind, tls)) {
        if let Some(rank) = rank(own, route)
            && best.is_none_or(|(better, _)| rank > better)
        {
            best = Some((rank, own.profile));
        }
    }
    best.map(|(_, profile)| profile)
}

/// The rate-limiting profile that runs, with its index; `None`: no limit is configured.
pub fn rate_limiting<'p>(
    policy: &'p Policy,
    route: &Route,
    refs: Refs<'_>,
    tls: bool,
) -> Result<Option<(u32, &'p Profile)>, BrokenRef> {
    let Some(index) = chosen(PluginKind::RateLimiting, route.plugins.rate_limiting, route, refs, tls) else {
        return Ok(None);
    };
    let profile = policy.rate_limiting.get(index as usize).ok_or(BrokenRef { profile: index })?;
    Ok(Some((index, profile)))
}

/// The request-size-limiting that runs; `None`: none is configured.
pub fn size_limiting(
    policy: &Policy,
    route: &Route,
    refs: Refs<'_>,
    tls: bool,
) -> Result<Option<SizeLimit>, BrokenRef> {
    let Some(index) = chosen(PluginKind::SizeLimiting, route.plugins.size_limiting, route, refs, tls) else {
        return Ok(None);
    };
    policy.size_limiting.get(index as usize).copied().map(Some).ok_or(BrokenRef { profile: index })
}
