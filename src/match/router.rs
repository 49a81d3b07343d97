//! The route that a request takes (Kong's `traditional_compatible` rules).
//!
//! In: the rules of all routes, once; then one [`Query`] per request. Out: the index of the route and the number of bytes of
//! the path that it covered. Invariant: among all routes whose conditions hold, the one first in priority wins: number of
//! condition kinds, hosts without wildcard, number of headers, regex path, `regex_priority`, longer prefix, older route.
//! A path list counts as one route per path. Cost follows the length of the path, not the number of routes.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::canonical::CanonicalPath;
use super::host::Authority;
use super::rule::{HeaderRule, HostKind, HostRule, PathRule, RouteRule};
use super::trie::Trie;

/// The parts of a request that decide its route.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// Upper-case method.
    pub method: &'a str,
    /// From the one `Host` header.
    pub authority: &'a Authority<'a>,
    /// The connection is TLS: decides the default port.
    pub tls: bool,
    /// The checked path.
    pub path: CanonicalPath<'a>,
    /// Header fields, names in lower case, repeated ones repeated.
    pub headers: &'a [(&'a str, &'a str)],
}

/// The route of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matched {
    /// Index into the rules the router was built from.
    pub route: usize,
    /// Bytes of the (decoded) path that the route's path covered; 0 for a route without paths.
    pub prefix_len: usize,
}

/// The index over all routes.
#[derive(Debug, Clone)]
pub struct Router {
    rules: Vec<RouteRule>,
    /// Best first: an entry's index is its rank.
    entries: Vec<Entry>,
    by_path: Trie<Bucket>,
}

/// One route with one of its paths.
#[derive(Debug, Clone, Copy)]
struct Entry {
    route: usize,
    /// Index into the rule's paths; `None` for a route without paths.
    path: Option<usize>,
}

/// The entries of one literal prefix by host, ranks ascending.
#[derive(Debug, Clone, Default)]
struct Bucket {
    any: Vec<usize>,
    exact: HashMap<Box<str>, Vec<usize>>,
    suffix: HashMap<Box<str>, Vec<usize>>,
    prefix: HashMap<Box<str>, Vec<usize>>,
}

impl Router {
    /// Sorts and indexes the rules. [`Matched::route`] is an index into `rules`.
    pub fn new(rules: Vec<RouteRule>) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        for (route, rule) in rules.iter().enumerate() {
            if rule.paths.is_empty() {
                entries.push(Entry { route, path: None });
            }
            entries.extend((0..rule.paths.len()).map(|path| Entry { route, path: Some(path) }));
        }
        entries.sort_by_key(|entry| Reverse(priority(&rules[entry.route], *entry)));
        let mut by_path: Trie<Bucket> = Trie::new();
        for (rank, entry) in entries.iter().enumerate() {
            let rule = &rules[entry.route];
            let literal = match entry.path.map(|p| &rule.paths[p]) {
                None => "",
                Some(PathRule::Prefix(prefix)) => prefix,
                Some(PathRule::Regex(regex)) => &literal_prefix(regex.as_str()),
            };
            by_path.entry(literal.as_bytes()).add(rank, &rule.hosts);
        }
        // A route with two hosts of one wildcard text but other ports would be listed twice.
        by_path.values_mut().for_each(Bucket::finish);
        Self { rules, entries, by_path }
    }

    /// The route of this request; `None`: no route matches.
    pub fn find(&self, query: &Query<'_>) -> Option<Matched> {
        let mut best: Option<(usize, usize)> = None;
        self.by_path.walk(query.path.as_str().as_bytes(), |bucket| {
            bucket.each_list(&query.authority.host, |ranks| {
                for &rank in ranks {
                    if best.is_some_and(|(better, _)| better <= rank) {
                        break;
                    }
                    if let Some(covered) = self.holds(self.entries[rank], query) {
                        best = Some((rank, covered));
                        break;
                    }
                }
            });
        });
        best.map(|(rank, prefix_len)| Matched { route: self.entries[rank].route, prefix_len })
    }

    /// All conditions of one entry; the covered length when they hold.
    fn holds(&self, entry: Entry, query: &Query<'_>) -> Option<usize> {
        let rule = &self.rules[entry.route];
        if !rule.methods.is_empty() && !rule.methods.iter().any(|m| **m == *query.method) {
            return None;
        }
        if !rule.hosts.is_empty() {
            let port = query.authority.port.unwrap_or(if query.tls { 443 } else { 80 });
            if !rule.hosts.iter().any(|h| h.holds(&query.authority.host, port)) {
                return None;
            }
        }
        let header_holds = |(name, wanted): &HeaderRule| {
            query.headers.iter().any(|(n, v)| *n == &**name && wanted.iter().any(|w| w.holds(v)))
        };
        if !rule.headers.iter().all(header_holds) {
            return None;
        }
        entry.path.map_or(Some(0), |p| rule.paths[p].covers(query.path.as_str()))
    }
}

impl Bucket {
    fn add(&mut self, rank: usize, hosts: &[HostRule]) {
        if hosts.is_empty() {
            self.any.push(rank);
        }
        for host in hosts {
            let lists = match host.kind {
                HostKind::Exact => &mut self.exact,
                HostKind::Suffix => &mut self.suffix,
                HostKind::Prefix => &mut self.prefix,
            };
            lists.entry(host.text.clone()).or_default().push(rank);
        }
    }

    fn finish(&mut self) {
        for lists in [&mut self.exact, &mut self.suffix, &mut self.prefix] {
            lists.values_mut().for_each(Vec::dedup);
        }
    }

    /// Every list whose host condition can hold for `host`.
    fn each_list<'a>(&'a self, host: &str, mut visit: impl FnMut(&'a [usize])) {
        visit(&self.any);
        if !self.exact.is_empty() {
            visit(self.exact.get(host).map_or(&[], Vec::as_slice));
        }
        if self.suffix.is_empty() && self.prefix.is_empty() {
            return;
        }
        for (dot, _) in host.match_indices('.') {
            visit(self.suffix.get(&host[dot..]).map_or(&[], Vec::as_slice));
            visit(self.prefix.get(&host[..=dot]).map_or(&[], Vec::as_slice));
        }
    }
}

/// Greater is better.
type Priority = (u8, bool, usize, bool, i64, usize, Reverse<i64>, Reverse<usize>);

fn priority(rule: &RouteRule, entry: Entry) -> Priority {
    let (is_regex, regex_priority, length) = match entry.path.map(|p| &rule.paths[p]) {
        None => (false, 0, 0),
        Some(PathRule::Prefix(prefix)) => (false, 0, prefix.len()),
        Some(PathRule::Regex(_)) => (true, rule.regex_priority, 0),
    };
    (
        rule.categories(),
        rule.plain_hosts(),
        rule.headers.len(),
        is_regex,
        regex_priority,
        length,
        Reverse(rule.created_at),
        Reverse(entry.route),
    )
}

/// The literal text that every match of `^(?:pattern)` begins with: characters up to the first with a meaning of its own,
/// less one that a quantifier follows. Empty wherever an alternative could begin in another way.
fn literal_prefix(anchored: &str) -> String {
    let pattern = anchored.strip_prefix("^(?:").and_then(|p| p.strip_suffix(')')).unwrap_or("");
    if has_outer_alternative(pattern) {
        return String::new();
    }
    let mut literal = String::new();
    for c in pattern.chars() {
        match c {
            '*' | '?' | '{' | '+' => {
                literal.pop();
                return literal;
            }
            '\\' | '.' | '^' | '$' | '(' | ')' | '[' | ']' | '}' | '|' => return literal,
            c => literal.push(c),
        }
    }
    literal
}

/// True when a `|` stands outside every group (or where this simple reading is not sure).
fn has_outer_alternative(pattern: &str) -> bool {
    let mut depth = 0_usize;
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '[' => return pattern.contains('|'),
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::r#match::ValueRule;
    use proptest::prelude::*;

    #[derive(Debug, Clone, Default)]
    struct Spec {
        methods: Vec<&'static str>,
        hosts: Vec<&'static str>,
        paths: Vec<&'static str>,
        headers: Vec<(&'static str, Vec<&'static str>)>,
        regex_priority: i64,
        created_at: i64,
    }

    fn rule(spec: &Spec) -> RouteRule {
        RouteRule {
            methods: spec.methods.iter().map(|m| (*m).into()).collect(),
            hosts: spec.hosts.iter().map(|h| HostRule::parse(h).unwrap()).collect(),
            paths: spec.paths.iter().map(|p| PathRule::parse(p).unwrap()).collect(),
            headers: spec
                .headers
                .iter()
                .map(|(n, vs)| ((*n).into(), vs.iter().map(|v| ValueRule::parse(v).unwrap()).collect()))
                .collect(),
            regex_priority: spec.regex_priority,
            created_at: spec.created_at,
        }
    }

    fn find(router: &Router, method: &str, host: &str, path: &str, headers: &[(&str, &str)]) -> Option<(usize, usize)> {
        let authority = Authority::parse(host).unwrap();
        let query =
            Query { method, authority: &authority, tls: false, path: CanonicalPath::new(path).unwrap(), headers };
        router.find(&query).map(|m| (m.route, m.prefix_len))
    }

    fn router(specs: &[Spec]) -> Router {
        Router::new(specs.iter().map(rule).collect())
    }

    #[test]
    fn priority_follows_the_order_of_the_reference() {
        let specs = [
            Spec { paths: vec!["/"], ..Spec::default() },
            Spec { paths: vec!["/a"], ..Spec::default() },
            Spec { paths: vec!["~/a\\w"], ..Spec::default() },
            Spec { paths: vec!["/a"], methods: vec!["GET"], ..Spec::default() },
            Spec { paths: vec!["/"], hosts: vec!["*.x.org"], ..Spec::default() },
            Spec { paths: vec!["/"], hosts: vec!["a.x.org"], ..Spec::default() },
            Spec { paths: vec!["/"], headers: vec![("x-v", vec!["1", "~*^b"])], ..Spec::default() },
        ];
        let r = router(&specs);
        assert_eq!(find(&r, "POST", "h", "/zz", &[]), Some((0, 1)));
        assert_eq!(find(&r, "POST", "h", "/a", &[]), Some((1, 2)));
        assert_eq!(find(&r, "POST", "h", "/abc", &[]), Some((2, 3)), "regex before prefix");
        assert_eq!(find(&r, "GET", "h", "/abc", &[]), Some((3, 2)), "two kinds of condition before regex");
        assert_eq!(find(&r, "POST", "b.x.org", "/a", &[]), Some((4, 1)));
        assert_eq!(find(&r, "POST", "a.x.org", "/a", &[]), Some((5, 1)), "plain host before wildcard");
        assert_eq!(find(&r, "POST", "h", "/q", &[("x-v", "Bee")]), Some((6, 1)));
        assert_eq!(find(&r, "POST", "h", "/q", &[("x-v", "2")]), Some((0, 1)));
    }

    #[test]
    fn ties_go_to_regex_priority_then_age() {
        let r = router(&[
            Spec { paths: vec!["~/a"], regex_priority: 1, created_at: 5, ..Spec::default() },
            Spec { paths: vec!["~/a."], regex_priority: 2, created_at: 9, ..Spec::default() },
            Spec { paths: vec!["/b"], created_at: 9, ..Spec::default() },
            Spec { paths: vec!["/b"], created_at: 5, regex_priority: -1, ..Spec::default() },
        ]);
        assert_eq!(find(&r, "GET", "h", "/ab", &[]), Some((1, 3)));
        assert_eq!(find(&r, "GET", "h", "/b", &[]), Some((3, 2)));
        assert_eq!(find(&r, "GET", "h", "/c", &[]), None);
    }

    #[test]
    fn ports_of_hosts_and_routes_without_paths() {
        let r = router(&[
            Spec { hosts: vec!["x.org:8000"], ..Spec::default() },
            Spec { hosts: vec!["x.org:80"], ..Spec::default() },
        ]);
        assert_eq!(find(&r, "GET", "x.org:8000", "/b", &[]), Some((0, 0)));
        assert_eq!(find(&r, "GET", "X.org", "/b", &[]), Some((1, 0)));
        assert_eq!(find(&r, "GET", "x.org:81", "/b", &[]), None);
    }

    #[test]
    fn literal_prefixes_never_promise_too_much() {
        for (pattern, literal) in [
            ("/a/b", "/a/b"),
            ("/a/?b", "/a"),
            ("/ab{2}", "/a"),
            ("/ab+", "/a"),
            ("/a|/b", ""),
            ("/v(1|2)/x", "/v"),
            ("/[|]x", ""),
            ("(?i)/a", ""),
            ("/a\\.b", "/a"),
        ] {
            assert_eq!(literal_prefix(&format!("^(?:{pattern})")), literal, "{pattern}");
        }
    }

    /// The rules read naively: every route and path tried, the best kept.
    fn reference(rules: &[RouteRule], query: &Query<'_>) -> Option<(usize, usize)> {
        let port = query.authority.port.unwrap_or(80);
        let mut best: Option<(Priority, usize, usize)> = None;
        for (route, rule) in rules.iter().enumerate() {
            let method = rule.methods.is_empty() || rule.methods.iter().any(|m| **m == *query.method);
            let host = rule.hosts.is_empty() || rule.hosts.iter().any(|h| h.holds(&query.authority.host, port));
            let headers = rule.headers.iter().all(|(name, wanted)| {
                query.headers.iter().any(|(n, v)| *n == &**name && wanted.iter().any(|w| w.holds(v)))
            });
            if !(method && host && headers) {
                continue;
            }
            let mut consider = |path: Option<usize>, covered: usize| {
                let rank = priority(rule, Entry { route, path });
                if best.is_none_or(|(better, ..)| rank > better) {
                    best = Some((rank, route, covered));
                }
            };
            if rule.paths.is_empty() {
                consider(None, 0);
            }
            for (index, path) in rule.paths.iter().enumerate() {
                if let Some(covered) = path.covers(query.path.as_str()) {
                    consider(Some(index), covered);
                }
            }
        }
        best.map(|(_, route, covered)| (route, covered))
    }

    fn spec() -> impl Strategy<Value = Spec> {
        let some = |items: Vec<&'static str>| prop::sample::subsequence(items, 0..=2);
        (
            some(vec!["GET", "POST", "PUT"]),
            some(vec!["a.org", "b.a.org", "*.a.org", "b.*", "a.org:81", "*.org"]),
            some(vec!["/", "/a", "/a/b", "/ab", "~/a", "~/a/\\w+", "~/(a|b)", "~/a|/b", "/b/", "~/ab?c?", "~(?i)/A"]),
            prop::sample::subsequence(vec![("x-a", vec!["1"]), ("x-b", vec!["~*^[ab]", "7"])], 0..=2),
            -2_i64..3,
            0_i64..3,
        )
            .prop_map(|(methods, hosts, paths, headers, regex_priority, created_at)| Spec {
                methods,
                hosts,
                paths,
                headers,
                regex_priority,
                created_at,
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn agrees_with_the_naive_reading(
            specs in prop::collection::vec(spec(), 0..12),
            method in prop::sample::select(vec!["GET", "POST", "DELETE"]),
            host in prop::sample::select(vec!["a.org", "b.a.org", "c.b.a.org:81", "b.com", "z", "a.org:81"]),
            path in prop::sample::select(vec!["/", "/a", "/a/b", "/a/b/c", "/ab", "/abc", "/b/x", "/b", "/A"]),
            headers in prop::sample::subsequence(vec![("x-a", "1"), ("x-b", "Bz"), ("x-b", "7"), ("x-a", "2")], 0..=3),
        ) {
            let rules: Vec<RouteRule> = specs.iter().map(rule).collect();
            let authority = Authority::parse(host).unwrap();
            let query = Query {
                method, authority: &authority, tls: false, path: CanonicalPath::new(path).unwrap(), headers: &headers,
            };
            let wanted = reference(&rules, &query);
            let found = Router::new(rules).find(&query).map(|m| (m.route, m.prefix_len));
            prop_assert_eq!(found, wanted);
        }
    }
}
