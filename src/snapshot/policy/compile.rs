//! As-written policy -> compiled [`Policy`]: every value checked, every reference resolved.
//!
//! Each conversion takes its written type apart field by field, so that a new field cannot be forgotten here.

use std::collections::HashMap;

use super::checks::{self, Columns, column, index, scheme, uuid, value};
use super::compiled::{
    Acl, Anonymous, HashOn, KeyAuth, LimitBy, Passive, Policy, Profile, ProfileLimit, Route, RouteInstance,
    RoutePlugins, Service, ServiceTls, SizeLimit, Target, Upstream,
};
use super::cors::Cors;
use super::wire::ColumnKind;
use super::wire_common::Protocol;
use super::{certificate, compile_tiers, wire};
use crate::limits::Limit;
use crate::r#match::{HostRule, PathRule, RouteRule, Router, RuleError, ValueRule};
use crate::snapshot::error::{Part, SnapshotError};

pub(super) fn policy(from: wire::Policy) -> Result<Policy, SnapshotError> {
    let wire::Policy {
        services,
        routes,
        key_auth,
        rate_limiting,
        size_limiting,
        acl,
        cors,
        v1_cors,
        certificates,
        default_tier,
        tiers,
        models,
        series: _,
        calls: _,
        columns,
    } = from;
    let columns = checks::columns(columns)?;
    let services = services.into_iter().map(service).collect::<Result<Vec<_>, _>>()?;
    let service_index = index("service", services.iter().map(|s| s.n))?;
    let key_auth =
        key_auth.into_iter().enumerate().map(|(i, k)| self::key_auth(i, k)).collect::<Result<Vec<_>, _>>()?;
    let rate_limiting =
        rate_limiting.into_iter().enumerate().map(|(i, p)| profile(i, p, &columns)).collect::<Result<Vec<_>, _>>()?;
    let size_limiting: Vec<SizeLimit> = size_limiting.iter().map(size_limit).collect();
    let acl = acl.into_iter().enumerate().map(|(i, a)| self::acl(i, a)).collect::<Result<Vec<_>, _>>()?;
    let cors = cors.into_iter().enumerate().map(|(i, c)| Cors::compile(Part::Item("cors", i), c));
    let cors = cors.collect::<Result<Vec<_>, _>>()?;
    let v1_cors = v1_cors.map(|cors| Cors::compile(Part::Whole, cors)).transpose()?;
    let (certificates, server_names) = certificate::certificates(certificates)?;
    let lists = Lists {
        key_auth: key_auth.len(),
        rate: rate_limiting.len(),
        size: size_limiting.len(),
        acl: acl.len(),
        cors: cors.len(),
    };
    let offer = compile_tiers::offer(tiers, models, default_tier, &columns)?;
    let (routes, rules) = self::routes(routes, &service_index, lists)?;
    Ok(Policy {
        services,
        routes,
        router: Router::new(rules),
        key_auth,
        rate_limiting,
        size_limiting,
        acl,
        cors,
        v1_cors,
        certificates,
        server_names,
        offer,
    })
}

/// The lengths of the lists that routes point into.
#[derive(Clone, Copy)]
struct Lists {
    key_auth: usize,
    rate: usize,
    size: usize,
    acl: usize,
    cors: usize,
}

impl Lists {
    /// Refuses a route that points behind the end of a list.
    fn hold(
        self,
        at: Part,
        key_auth: Option<usize>,
        acl: Option<usize>,
        cors: Option<usize>,
    ) -> Result<(), SnapshotError> {
        for (kind, index, length) in
            [("key_auth", key_auth, self.key_auth), ("acl", acl, self.acl), ("cors", cors, self.cors)]
        {
            if let Some(index) = index.filter(|&index| index >= length) {
                return Err(SnapshotError::Dangling { from: at, kind, to: index as u64 });
            }
        }
        Ok(())
    }
}

fn service(from: wire::Service) -> Result<Service, SnapshotError> {
    let wire::Service {
        n,
        id,
        name,
        protocol,
        host,
        port,
        path,
        retries: _,
        connect_timeout_ms,
        write_timeout_ms,
        read_timeout_ms,
        tls_verify,
        tls,
        upstream: shared,
    } = from;
    let at = Part::Entity("service", n);
    checks::address(at, &host, port, path.as_deref())?;
    if [connect_timeout_ms, write_timeout_ms, read_timeout_ms].contains(&0) {
        return Err(value(at, "timeouts must be at least 1 ms"));
    }
    Ok(Service {
        n,
        id: uuid(&id, at)?,
        name: name.map(Into::into),
        scheme: scheme(protocol),
        host: host.into(),
        port,
        path: path.map(Into::into),
        connect_timeout_ms,
        write_timeout_ms,
        read_timeout_ms,
        tls_verify,
        tls: tls.map(|from| service_tls(at, from)).transpose()?.map(Box::new),
        upstream: shared.map(|from| upstream(at, from)).transpose()?.map(Box::new),
    })
}

fn service_tls(at: Part, from: wire::ServiceTls) -> Result<ServiceTls, SnapshotError> {
    let wire::ServiceTls { ca, cert, key } = from;
    if cert.is_some() != key.is_some() {
        return Err(value(at, "a certificate and its key go together"));
    }
    Ok(ServiceTls { ca: ca.map(Into::into), cert: cert.map(Into::into), key: key.map(Into::into) })
}

fn upstream(at: Part, from: wire::Upstream) -> Result<Upstream, SnapshotError> {
    let wire::Upstream { host_header, hash, least_connections, passive, targets } = from;
    let target = |from: wire::Target| {
        let wire::Target { host, port, weight } = from;
        checks::address(at, &host, port, None)?;
        if weight == 0 {
            return Err(value(at, "a target without weight gets no request: leave it out"));
        }
        Ok(Target { host: host.into(), port, weight })
    };
    let wire::Passive { http_failures, http_statuses, tcp_failures, timeouts } = passive;
    Ok(Upstream {
        host_header: host_header.map(Into::into),
        hash: hash.into_iter().map(|from| hash_on(at, from)).collect::<Result<_, _>>()?,
        least_connections,
        passive: Passive { http_failures, http_statuses: http_statuses.into(), tcp_failures, timeouts },
        targets: targets.into_iter().map(target).collect::<Result<_, _>>()?,
    })
}

fn hash_on(at: Part, from: wire::HashOn) -> Result<HashOn, SnapshotError> {
    let wire::HashOn { by, name } = from;
    Ok(match (by, name) {
        (wire::HashBy::Consumer, None) => HashOn::Consumer,
        (wire::HashBy::Ip, None) => HashOn::Ip,
        (wire::HashBy::Path, None) => HashOn::Path,
        (wire::HashBy::Header, Some(name)) => HashOn::Header(name.to_ascii_lowercase().into()),
        (wire::HashBy::QueryArg, Some(name)) => HashOn::QueryArg(name.into()),
        _ => return Err(value(at, "a header or an argument to hash has a name, and nothing else has")),
    })
}

fn size_limit(from: &wire::SizeLimiting) -> SizeLimit {
    let wire::SizeLimiting { bytes, require_content_length } = from;
    SizeLimit { bytes: *bytes, require_content_length: *require_content_length }
}

fn acl(index: usize, from: wire::Acl) -> Result<Acl, SnapshotError> {
    let wire::Acl { allow, deny, hide_groups_header } = from;
    if allow.is_empty() == deny.is_empty() {
        return Err(value(Part::Item("acl", index), "exactly one of allow and deny must hold groups"));
    }
    let allows = !allow.is_empty();
    let groups = if allows { allow } else { deny };
    Ok(Acl { allows, groups: groups.into_iter().map(Into::into).collect(), hide_groups_header })
}

fn base(
    at: Part,
    kind: &'static str,
    from: Option<&wire::RouteInstance>,
    profiles: usize,
) -> Result<Option<RouteInstance>, SnapshotError> {
    match from {
        None => Ok(None),
        Some(wire::RouteInstance { rank, .. }) if !matches!(rank, 1 | 2 | 3 | 5) => {
            Err(value(at, "rank of a plugin without a consumer must be 5, 3, 2 or 1"))
        }
        Some(wire::RouteInstance { profile, .. }) if *profile as usize >= profiles => {
            Err(SnapshotError::Dangling { from: at, kind, to: u64::from(*profile) })
        }
        Some(&wire::RouteInstance { rank, profile }) => Ok(Some(RouteInstance { rank, profile })),
    }
}

/// The routes, and their conditions in the same order. Behind them stand the routes whose plugins differ for requests with TLS, again.
fn routes(
    mut from: Vec<wire::Route>,
    services: &HashMap<u32, usize>,
    lists: Lists,
) -> Result<(Vec<Route>, Vec<RouteRule>), SnapshotError> {
    index("route", from.iter().map(|r| r.n))?;
    let over_tls: Vec<_> = from.iter_mut().map(|route| route.over_tls.take()).collect();
    let made: Result<(Vec<Route>, Vec<RouteRule>), _> =
        from.into_iter().map(|from| route(from, services, lists)).collect();
    let (mut routes, rules) = made?;
    for (at, from) in over_tls.into_iter().enumerate() {
        if let Some(from) = from {
            let plugins = plugins(Part::Entity("route", routes[at].n), &from, lists)?;
            routes.push(Route { plugins, ..routes[at].clone() });
            routes[at].over_tls = Some(routes.len() - 1);
        }
    }
    Ok((routes, rules))
}

fn plugins(at: Part, from: &wire::RoutePlugins, lists: Lists) -> Result<RoutePlugins, SnapshotError> {
    let wire::RoutePlugins { key_auth, rate_limiting, size_limiting, acl, cors } = from;
    lists.hold(at, *key_auth, *acl, *cors)?;
    Ok(RoutePlugins {
        key_auth: *key_auth,
        rate_limiting: base(at, "profile", rate_limiting.as_ref(), lists.rate)?,
        size_limiting: base(at, "size_limiting", size_limiting.as_ref(), lists.size)?,
        acl: *acl,
        cors: *cors,
    })
}

fn route(from: wire::Route, services: &HashMap<u32, usize>, lists: Lists) -> Result<(Route, RouteRule), SnapshotError> {
    let wire::Route {
        n,
        id,
        name,
        service,
        protocols,
        https_redirect_status_code,
        hosts,
        methods,
        paths,
        headers,
        regex_priority,
        created_at,
        strip_path,
        preserve_host,
        key_auth,
        rate_limiting,
        size_limiting,
        acl,
        cors,
        over_tls: _,
    } = from;
    let at = Part::Entity("route", n);
    let dangling = |kind, to| SnapshotError::Dangling { from: at, kind, to };
    if protocols.is_empty() {
        return Err(value(at, "protocols must name http, https or both"));
    }
    if !matches!(https_redirect_status_code, 426 | 301 | 302 | 307 | 308) {
        return Err(value(at, "https_redirect_status_code must be 426, 301, 302, 307 or 308"));
    }
    let own = wire::RoutePlugins { key_auth, rate_limiting, size_limiting, acl, cors };
    let plugins = plugins(at, &own, lists)?;
    let service_index = match service {
        None => None,
        Some(to) => Some(*services.get(&to).ok_or_else(|| dangling("service", u64::from(to)))?),
    };
    let rule = rule(&hosts, &methods, &paths, &headers, (regex_priority, created_at))
        .map_err(|source| SnapshotError::Rule { at, source })?;
    let route = Route {
        n,
        id: uuid(&id, at)?,
        name: name.map(Into::into),
        service: service_index,
        service_n: service.unwrap_or(0),
        allow_http: protocols.contains(&Protocol::Http),
        https_redirect_status: https_redirect_status_code,
        strip_path,
        preserve_host,
        plugins,
        over_tls: None,
    };
    Ok((route, rule))
}

fn rule(
    hosts: &[String],
    methods: &[String],
    paths: &[String],
    headers: &[(String, Vec<String>)],
    (regex_priority, created_at): (i64, i64),
) -> Result<RouteRule, RuleError> {
    let headers = headers
        .iter()
        .map(|(name, values)| {
            let rules = values.iter().map(|v| ValueRule::parse(v)).collect::<Result<_, _>>()?;
            Ok((name.to_ascii_lowercase().into(), rules))
        })
        .collect::<Result<_, RuleError>>()?;
    let rule = RouteRule {
        methods: methods.iter().map(|m| m.as_str().into()).collect(),
        hosts: hosts.iter().map(|h| HostRule::parse(h)).collect::<Result<_, _>>()?,
        paths: paths.iter().map(|p| PathRule::parse(p)).collect::<Result<_, _>>()?,
        headers,
        regex_priority,
        created_at,
    };
    if rule.categories() == 0 { Err(RuleError::Unconditional) } else { Ok(rule) }
}

fn key_auth(index: usize, from: wire::KeyAuth) -> Result<KeyAuth, SnapshotError> {
    let wire::KeyAuth {
        key_names,
        key_in_header,
        key_in_query,
        key_in_body,
        hide_credentials,
        run_on_preflight,
        realm,
        anonymous,
        anonymous_missing,
    } = from;
    let at = Part::Item("key_auth", index);
    if key_in_body {
        return Err(value(at, "key_in_body is not supported in this version"));
    }
    if key_names.is_empty() || key_names.iter().any(|n| n.is_empty() || !n.bytes().all(|b| b.is_ascii_graphic())) {
        return Err(value(at, "key_names must hold header names"));
    }
    let challenge = match &realm {
        None => "Key".to_owned(),
        Some(realm) if realm.bytes().any(|b| !(b' '..0x7f).contains(&b) || matches!(b, b'"' | b'\\')) => {
            return Err(value(at, "realm must be printable ASCII without quotes and backslashes"));
        }
        Some(realm) => format!("Key realm=\"{realm}\""),
    };
    Ok(KeyAuth {
        header_names: key_names.iter().map(|n| n.to_ascii_lowercase().into()).collect(),
        names: key_names.into_iter().map(Into::into).collect(),
        in_header: key_in_header,
        in_query: key_in_query,
        hide: hide_credentials,
        run_on_preflight,
        challenge: challenge.into(),
        anonymous: match (anonymous, anonymous_missing) {
            (None, None) => Anonymous::Refused,
            (Some(n), None) => Anonymous::Consumer(n),
            (None, Some(text)) => Anonymous::Missing(text.into()),
            (Some(_), Some(_)) => return Err(value(at, "anonymous and anonymous_missing exclude each other")),
        },
    })
}

fn profile(index: usize, from: wire::RateLimiting, columns: &Columns) -> Result<Profile, SnapshotError> {
    let wire::RateLimiting { limit_by, header_name, path, limits, hide_client_headers, error_code, error_message } =
        from;
    let at = Part::Item("rate_limiting", index);
    let limit_by = match limit_by {
        wire::LimitBy::Consumer => LimitBy::Consumer,
        wire::LimitBy::Credential => LimitBy::Credential,
        wire::LimitBy::Ip => LimitBy::Ip,
        wire::LimitBy::Service => LimitBy::Service,
        wire::LimitBy::Header => match header_name {
            Some(name) => LimitBy::Header(name.to_ascii_lowercase().into()),
            None => return Err(value(at, "limit_by header needs header_name")),
        },
        wire::LimitBy::Path => match path {
            Some(path) => LimitBy::Path(path.into()),
            None => return Err(value(at, "limit_by path needs path")),
        },
    };
    let (needs_dense, needs_open) = match limit_by {
        LimitBy::Consumer | LimitBy::Credential => (true, true),
        LimitBy::Service => (true, false),
        LimitBy::Ip | LimitBy::Header(_) | LimitBy::Path(_) => (false, true),
    };
    if limits.is_empty() {
        return Err(value(at, "at least one limit is required"));
    }
    if !(100..600).contains(&error_code) {
        return Err(value(at, "error_code must be an HTTP status"));
    }
    let limits = limits
        .into_iter()
        .map(|wire::Limit { kind, fields, dense, open }| {
            column(at, columns, dense, ColumnKind::Dense, needs_dense)?;
            column(at, columns, open, ColumnKind::Open, needs_open)?;
            let limit = Limit::build(&kind, &fields).map_err(|error| value(at, &error.to_string()))?;
            if let Some(why) = limit.not_open().filter(|_| open.is_some()) {
                return Err(value(at, why));
            }
            Ok(ProfileLimit { limit, dense, open })
        })
        .collect::<Result<_, SnapshotError>>()?;
    Ok(Profile { limit_by, limits, hide_client_headers, error_code, error_message: error_message.into() })
}
