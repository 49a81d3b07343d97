//! Requests of services and routes: matched by Kong's rules, governed by its plugins and by the caller's tier.
//!
//! Order of the head: route, key, size, groups, then a look at the windows; of the body: size, then everything is taken.
//! Source of the order: the priorities of Kong's plugins (key-auth 1250, request-size-limiting 951, acl 950, rate-limiting 910).

use super::refuse::{Place, Turned, facts, kong_headers};
use super::tier::{Who, without_limit};
use super::{Admitted, Destination, Gateway, Ids, MAX_ANSWER};
use crate::accept::{Arrival, BodyLength};
use crate::forward::{self, Bound, Identity};
use crate::in_force::{InForce, Whose, whose};
use crate::upstream::{Attempt, Call};
use aigw_core::admit::{Check, Refusal};
use aigw_core::cells::CellKey;
use aigw_core::clock::Clock;
use aigw_core::denial::{Extra, Reason, Refused};
use aigw_core::identify::{Caller, Request, hidden_query, identify};
use aigw_core::r#match::upstream_path::upstream_path;
use aigw_core::r#match::{Authority, CanonicalPath, Query};
use aigw_core::snapshot::{Limit, Profile, Refs, Route, SizeLimit, plan};
use aigw_core::units::Moment;
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::Arc;

/// What the head found out.
pub(super) struct Passage {
    route: usize,
    /// Bytes of the path that the route covered.
    covered: usize,
    identity: Option<Identity>,
    /// The profile that the first `own` checks come from.
    profile: Option<u32>,
    own: usize,
    /// Most bytes of the body.
    size: Option<u64>,
}

/// The checks of a request, and what refusals by them need.
struct Limits<'a> {
    profile: Option<&'a Profile>,
    /// How many of the checks are the profile's; the rest is the tier's.
    own: usize,
    tier: Option<&'a str>,
}

impl Gateway {
    pub(super) fn pass_kong(&self, in_force: &Arc<InForce>, arrival: &Arrival) -> Result<super::Passage, Box<Turned>> {
        let nowhere = |denial: Reason| Turned::new(denial, Place::default());
        let path = CanonicalPath::new(&arrival.path).map_err(|_| nowhere(Reason::BadPath))?;
        let authority = match arrival.host() {
            "" => Authority { host: Cow::Borrowed(""), port: None },
            host => Authority::parse(host).ok_or_else(|| nowhere(Reason::BadHost))?,
        };
        let headers: Vec<(&str, &str)> = arrival.headers.iter().collect();
        let method = arrival.method.as_str();
        let policy = &in_force.snapshot.policy;
        let query = Query { method, authority: &authority, tls: arrival.tls, path, headers: &headers };
        let matched = policy.router.find(&query).ok_or_else(|| nowhere(Reason::NoRoute))?;
        let Some(route) = policy.routes.get(matched.route) else { return Err(nowhere(Reason::Internal).into()) };
        let mut place = Place::of(in_force, matched.route);
        if !route.allow_http && !arrival.tls {
            return Err(upgrade(route, arrival, place).into());
        }
        if policy.service_of(route).is_none() {
            return Err(Turned::new(Reason::NoService, place).into());
        }
        let now = self.clock.moment();
        let mut caller = Caller::nobody(&in_force.snapshot.keys);
        if let Some(auth) = policy.key_auth_of(route) {
            let request = Request { method, headers: &headers, query: &arrival.query };
            let seconds = u64::from(now.seconds().0);
            caller = identify(auth, &self.hasher, &in_force.snapshot.keys, &request, seconds).map_err(|refused| {
                let challenge = (refused.reason.row().extra == Extra::Challenge)
                    .then(|| ("www-authenticate", auth.challenge.to_string().into()));
                Turned::new(refused, place.clone()).with(challenge.into_iter().collect())
            })?;
        }
        let broken = |place: &Place| Turned::new(Reason::Internal, place.clone());
        let names = caller.names().map_err(|_| broken(&place))?;
        let credential = caller.credential().map_err(|_| broken(&place))?;
        place.consumer = names.map(|names| names.id);
        let refs = caller.consumer.map_or(Refs::empty(), |consumer| consumer.refs);
        let size = plan::size_limiting(policy, route, refs).map_err(|_| broken(&place))?;
        if let Some(reason) = size.and_then(|size| unfit(arrival.length, size)) {
            return Err(Turned::new(reason, place).into());
        }
        if let Some(acl) = policy.acl_of(route) {
            match &caller.consumer {
                None => return Err(Turned::new(Reason::AclUnauthorized, place).into()),
                Some(consumer) if !acl.passes(consumer.groups.iter()) => {
                    return Err(Turned::new(Reason::AclForbidden, place).into());
                }
                Some(_) => {}
            }
        }
        let planned = plan::rate_limiting(policy, route, refs).map_err(|_| broken(&place))?;
        let mut checks = Vec::new();
        if let Some((_, profile)) = planned {
            let consumer = caller.consumer.map(|consumer| consumer.n);
            let credential = credential.map(|credential| credential.n);
            self.profile_checks(profile, arrival, consumer, credential, &mut checks);
        }
        let own = checks.len();
        if let Some(consumer) = caller.consumer
            && let Some((index, tier)) = policy.offer.tier(consumer.tier)
        {
            place.tier = Some(index);
            let credential = credential.map_or(0, |credential| credential.n);
            self.tier_checks(tier, Who { consumer: consumer.n, credential }, arrival, &mut checks);
        }
        // A body may take long to arrive: what is exhausted now is refused before it is read. Without a body the
        // taking follows at once and looks for itself.
        if arrival.length != BodyLength::None
            && let Err(refusal) = self.admitter.peek(&mut checks, now)
        {
            let tier = place.tier().map(|tier| tier.name.to_string());
            let limits = Limits { profile: planned.map(|(_, profile)| profile), own, tier: tier.as_deref() };
            return Err(turned(refusal, &limits, &checks, now, place).into());
        }
        let hide_groups = policy.acl_of(route).is_none_or(|acl| acl.hide_groups_header);
        let identity = caller.consumer.zip(names).map(|(consumer, names)| Identity {
            id: names.id,
            username: names.username.map(str::to_owned),
            custom_id: names.custom_id.map(str::to_owned),
            credential: credential.map(|credential| credential.id),
            groups: if hide_groups { String::new() } else { consumer.groups.iter().collect::<Vec<_>>().join(", ") },
        });
        let kong = Passage {
            route: matched.route,
            covered: matched.prefix_len,
            identity,
            profile: planned.map(|(index, _)| index),
            own,
            size: size.map(|size| size.bytes),
        };
        Ok(super::Passage {
            in_force: Arc::clone(in_force),
            to: Destination::Kong(kong),
            tier: place.tier,
            consumer: place.consumer,
            checks,
        })
    }

    fn profile_checks(
        &self,
        profile: &Profile,
        arrival: &Arrival,
        consumer: Option<u32>,
        credential: Option<u32>,
        checks: &mut Vec<Check>,
    ) {
        let header = |name: &str| arrival.headers.get(name);
        let address = || arrival.peer.map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default();
        let whose = whose(&profile.limit_by, consumer, credential, header, &arrival.path, address);
        let key = |limit: &Limit| match (&whose, limit.dense, limit.open) {
            (Whose::Row(row), Some(column), _) => CellKey::Dense { column, row: *row },
            (Whose::Text(text), _, Some(column)) => self.admitter.open_key(column, text),
            // A column the policy forgot: no counter exists, and taking will say so (`Missing`) rather than let through.
            _ => CellKey::Dense { column: u32::MAX >> 2, row: 0 },
        };
        checks.extend(profile.limits.iter().map(|limit| {
            let mut check = Check::new(limit.limit, limit.per, key(limit));
            check.scope = profile.limit_by.name();
            check.hidden = profile.hide_client_headers;
            check
        }));
    }

    pub(super) fn admit_kong(
        &self,
        passage: Passage,
        mut checks: Vec<Check>,
        admitted: &mut Admitted,
        arrival: &Arrival,
        body: Bytes,
    ) -> Result<Call, Box<Turned>> {
        let Passage { route: index, covered, identity, profile, own, size } = passage;
        let in_force = Arc::clone(&admitted.in_force);
        admitted.route = Some(index);
        let place = Place {
            in_force: Some(Arc::clone(&in_force)),
            route: Some(index),
            consumer: admitted.consumer,
            tier: admitted.tier,
        };
        let refuse = |refused: Reason| Err(Box::new(Turned::new(refused, place.clone())));
        let policy = &in_force.snapshot.policy;
        let found = policy.routes.get(index).and_then(|route| Some((route, in_force.services.get(route.service?)?)));
        let Some((route, service)) = found else { return refuse(Reason::Internal) };
        if size.is_some_and(|most| body.len() as u64 > most) {
            return refuse(Reason::SizeLimited);
        }
        let Ok(path) = CanonicalPath::new(&arrival.path) else { return refuse(Reason::BadPath) };
        let base = policy.service_of(route).and_then(|service| service.path.as_deref());
        let Ok(target) = upstream_path(base, path, covered, route.strip_path) else { return refuse(Reason::BadPath) };
        let auth = policy.key_auth_of(route).filter(|auth| auth.hide);
        let query = auth.map_or(Cow::Borrowed(&*arrival.query), |auth| hidden_query(auth, &arrival.query));
        let target = if query.is_empty() { target.into_owned() } else { format!("{target}?{query}") };
        if !checks.is_empty() {
            let profile = profile.and_then(|profile| policy.rate_limiting.get(profile as usize));
            let tier = admitted.tier.and_then(|tier| policy.offer.tiers.get(tier));
            let now = self.clock.moment();
            match self.admitter.take(&mut checks, now, Ids::number(&arrival.request_id)) {
                Ok(taken) => admitted.permit = Some(taken),
                Err(refusal) => {
                    let limits = Limits { profile, own, tier: tier.map(|tier| &*tier.name) };
                    return Err(Box::new(turned(refusal, &limits, &checks, now, place)));
                }
            }
            if let Some(tier) = tier {
                self.count_shadows(tier, &checks);
            }
            admitted.headers = kong_headers(&checks, now, None, None, None);
            admitted.checks = checks;
        }
        let hide = auth.map_or(&[][..], |auth| &*auth.header_names);
        let stripped = (route.strip_path && covered > 1).then(|| arrival.path.get(..covered)).flatten();
        let host = if route.preserve_host { arrival.host() } else { &service.host };
        Ok(Call {
            method: arrival.method.clone(),
            attempt: Attempt {
                origin: Arc::clone(&service.origin),
                target,
                headers: forward::headers(arrival, Bound { host, stripped, identity: identity.as_ref(), hide }),
                body,
            },
            others: None,
            deadlines: service.deadlines,
            peer: arrival.peer,
            max_answer: MAX_ANSWER,
            whole: false,
        })
    }
}

/// Why a body is refused before it is read.
fn unfit(length: BodyLength, limit: SizeLimit) -> Option<Reason> {
    match length {
        BodyLength::Known(bytes) if bytes > limit.bytes => Some(Reason::SizeLimited),
        BodyLength::Chunked if limit.require_content_length => Some(Reason::LengthRequired),
        BodyLength::Known(_) | BodyLength::Chunked | BodyLength::None => None,
    }
}

/// What a refused check becomes for the client.
fn turned(refusal: Refusal, limits: &Limits<'_>, checks: &[Check], now: Moment, place: Place) -> Turned {
    let Refusal::Exceeded(index) = refusal else { return Turned::new(without_limit(refusal), place) };
    let Some(check) = checks.get(index) else { return Turned::new(Reason::Internal, place) };
    let by_tier = index >= limits.own;
    // Where the plugin hides its limits, a refusal by it tells nothing of others either: nobody could make sense of them.
    let headers =
        if check.hidden { Vec::new() } else { kong_headers(checks, now, Some(index), Some(check.scope), limits.tier) };
    let limit = Some(facts(check, check.scope));
    match limits.profile.filter(|_| !by_tier) {
        Some(profile) => Turned {
            refused: Refused::because(Reason::RateLimited, profile.error_message.clone()),
            place,
            headers,
            status: Some(profile.error_code),
            limit,
        },
        None => Turned { headers, limit, ..Turned::new(Reason::RateLimited, place) },
    }
}

/// "Come back over TLS": an upgrade, or a redirect where the route asks for one.
fn upgrade(route: &Route, arrival: &Arrival, place: Place) -> Turned {
    let turned = Turned::new(Reason::HttpsRequired, place);
    if route.https_redirect_status == Reason::HttpsRequired.status() {
        return turned.with(vec![("connection", "Upgrade".into()), ("upgrade", "TLS/1.2, HTTP/1.1".into())]);
    }
    let host = arrival.host().rsplit_once(':').map_or(arrival.host(), |(host, _)| host);
    let path = aigw_core::r#match::canonical::encode(&arrival.path);
    let query = if arrival.query.is_empty() { String::new() } else { format!("?{}", arrival.query) };
    let location = vec![("location", format!("https://{host}{path}{query}").into())];
    Turned { status: Some(route.https_redirect_status), ..turned.with(location) }
}
