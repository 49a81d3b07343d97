//! The stages of a request on Kong's routes, in their order.
//!
//! [`head`]: match (route, TLS, a preflight), identify (key), admit (size, groups, a look at the limits). [`body`]: admit (size), forward
//! (path), admit (all limits are taken), forward. Source of the order: the priorities of Kong's plugins (key-auth 1250,
//! request-size-limiting 951, acl 950, rate-limiting 910).

use bytes::Bytes;

use super::case::{Admission, Case, Findings, HeadOutcome, KongHead};
use super::cors;
use crate::admit::refused::{self, RouteLimits};
use crate::admit::{CallerRows, Check, groups, headers, profile, size, tier};
use crate::balance::spread;
use crate::cells::CounterSpace;
use crate::forward::headers::Identity;
use crate::forward::{self, Attempts, Dispatch, ServiceTurns};
use crate::identify;
use crate::in_force::InForce;
use crate::limits::Demand;
use crate::r#match;
use crate::refusal::{Reason, Refusal};
use crate::request::BodyLength;
use crate::settle::LogContext;
use crate::snapshot::{Refs, Route, plan};

pub(super) fn head<P: CounterSpace>(case: &Case<'_, P>, context: &mut LogContext) -> Result<HeadOutcome, Refusal> {
    let Case { in_force, hasher, admitter, head, now, .. } = *case;
    let (policy, keys) = (in_force.policy(), &in_force.snapshot.keys);
    let headers: Vec<(&str, &str)> = head.headers.iter().collect();

    // match
    let matched = r#match::route(&policy.router, head, &headers)?;
    let plain = policy.routes.get(matched.route).ok_or(Reason::Internal)?;
    let at = plain.over_tls.filter(|_| head.tls).unwrap_or(matched.route);
    let route = policy.routes.get(at).ok_or(Reason::Internal)?;
    context.route = Some(at);
    if !route.allow_http && !head.tls {
        return Err(r#match::tls::required(route.https_redirect_status, head));
    }
    if let Some(headers) = policy.cors_of(route).and_then(|cors| cors::preflight(cors, head)) {
        return Ok(HeadOutcome::Preflight(*context, headers));
    }
    must_lead_somewhere(in_force, route)?;

    // identify
    let (auth, seconds) = (policy.key_auth_of(route), u64::from(now.seconds().0));
    let caller = identify::on_route(auth, hasher, keys, head, &headers, seconds)?;
    let names = caller.names().or(Err(Reason::Internal))?;
    let credential = caller.credential().or(Err(Reason::Internal))?;
    let credential_n = credential.map_or(0, |credential| credential.n);
    context.credential_n = credential_n;
    let rows = caller.consumer.map(|consumer| CallerRows { consumer: consumer.n, credential: credential_n });
    context.consumer = names.map(|names| names.id);
    context.consumer_n = caller.consumer.map(|consumer| consumer.n);
    let tier = caller.consumer.and_then(|consumer| policy.offer.tier(consumer.tier));
    context.tier = tier.map(|(index, _)| index);

    // admit: size and groups, then a look at the limits of the instance and of the tier
    let refs = caller.consumer.map_or(Refs::empty(), |consumer| consumer.refs);
    let size = plan::size_limiting(policy, route, refs, head.tls).or(Err(Reason::Internal))?;
    size::declared(head.length, size)?;
    groups::judge(policy.acl_of(route), caller.consumer.as_ref())?;

    let size = size::stricter(size, tier.and_then(|(_, tier)| tier.route_max_bytes));
    size::declared(head.length, size)?;
    let planned = plan::rate_limiting(policy, route, refs, head.tls).or(Err(Reason::Internal))?;
    let mut checks = Vec::new();
    if let Some((_, profile)) = planned {
        profile::checks(profile, rows, head, admitter, &mut checks);
    }
    let own = checks.len();
    if let (Some((_, tier)), Some(rows)) = (tier, rows) {
        tier::checks(tier, tier::Work::Route, rows, head, admitter, &mut checks);
    }
    let limits = RouteLimits { profile: planned.map(|(_, profile)| profile), own, tier: context.tier(in_force) };
    look(case, limits, &mut checks)?;

    let acl = policy.acl_of(route);
    let identity =
        caller.consumer.zip(names).map(|(consumer, names)| Identity::new(&consumer, &names, credential, acl));
    let (profile, size) = (planned.map(|(index, _)| index), size.map(|size| size.bytes));
    let kong = KongHead { covered: matched.prefix_len, identity, profile, own, size };
    Ok(case.accepted(*context, checks, Findings::Kong(kong)))
}

/// A body may take long, so an exhausted limit refuses the request before its body is read. Without a body the take follows at once.
fn look<P: CounterSpace>(case: &Case<'_, P>, limits: RouteLimits<'_>, checks: &mut [Check]) -> Result<(), Refusal> {
    let Case { admitter, head, now, .. } = *case;
    if head.length == BodyLength::None {
        return Ok(());
    }
    let peeked = admitter.peek(checks, &Demand::default(), now);
    peeked.map_err(|why| refused::kong(why, limits, checks, now, head.id))
}

/// The route has a service, and the service a server.
fn must_lead_somewhere(in_force: &InForce, route: &Route) -> Result<(), Reason> {
    let service = route.service.and_then(|index| in_force.services.get(index)).ok_or(Reason::NoService)?;
    if service.targets.is_empty() { Err(Reason::NoTarget) } else { Ok(()) }
}

pub(super) fn body<P: CounterSpace>(
    case: &Case<'_, P>,
    context: LogContext,
    accepted: KongHead,
    mut checks: Vec<Check>,
    body: Bytes,
) -> Result<Admission<P>, Refusal> {
    let Case { in_force, admitter, head, now, .. } = *case;
    let KongHead { covered, identity, profile, own, size } = accepted;
    let policy = in_force.policy();
    let route = context.route(in_force).ok_or(Reason::Internal)?;
    let service = policy.service_of(route).ok_or(Reason::Internal)?;
    let at = route.service.ok_or(Reason::Internal)?;
    let targets = in_force.services.get(at).ok_or(Reason::Internal)?;

    // admit: the real size
    if size::is_above(body.len() as u64, size) {
        return Err(Reason::SizeLimited.into());
    }
    // forward: a path that cannot be sent is refused before anything is taken
    let hide = policy.key_auth_of(route).filter(|auth| auth.hide);
    let path = forward::kong::target(head, route, service, covered, hide)?;

    // admit: all limits, or none
    let profile = profile.and_then(|profile| policy.rate_limiting.get(profile as usize));
    let limits = RouteLimits { profile, own, tier: context.tier(in_force) };
    let demand = Demand { body: body.len() as u64, rows: 1, ..Demand::default() };
    let taken = admitter.take(&mut checks, &demand, now, head.id);
    let permit = taken.map_err(|why| refused::kong(why, limits, &checks, now, head.id))?;
    let mut own = Vec::new();
    if !checks.is_empty() {
        own.reserve(12);
        headers::rate_limit(&checks, now, None, &mut own);
    }

    // forward
    let caller = (identity.as_ref(), hide);
    let id = identity.as_ref().map(|identity| identity.id);
    let mut order = spread::order_of(targets, head, id.as_ref().map(|id| &id.as_bytes()[..]), now).into_iter();
    let last = order.next().ok_or(Reason::Internal)?;
    let to = targets.targets.get(last).ok_or(Reason::Internal)?;
    let first = forward::kong::attempt(head, route, to, path, caller, covered, body);
    let turns =
        ServiceTurns { in_force: in_force.clone(), service: at, order, last, keeps_host: route.preserve_host, now };
    let attempts = Attempts::of_service(first, turns);
    let dispatch = Dispatch::new(head.method.clone(), attempts, targets.deadlines, head.connection(), false);
    Ok(Admission {
        permit,
        shadowed: tier::shadowed(&checks),
        checks,
        headers: own,
        dispatch,
        model: None,
        charge: None,
    })
}
