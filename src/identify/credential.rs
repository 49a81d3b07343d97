//! Finding the API key in a request.
//!
//! In: a key-auth configuration, the header fields, the query. Out: one key, `None`, or `Duplicate`. Invariant: a request that carries two keys is `Duplicate`, whatever their order (on routes, as in Kong, also the same key
//! twice: header and query, two names, the same field twice), so that every other reader of the request picks the same caller.
//! The body is not searched: `key_in_body` is refused by the control process.

use std::borrow::Cow;

use crate::r#match::canonical;
use crate::snapshot::KeyAuth;

/// The parts of a request that may hold a key.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Method in upper case.
    pub method: &'a str,
    /// Header fields, names in lower case, repeated ones repeated.
    pub headers: &'a [(&'a str, &'a str)],
    /// The raw query, without `?`.
    pub query: &'a str,
}

/// The key of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presented<'a> {
    /// No key, or an empty one.
    None,
    /// More than one.
    Duplicate,
    /// One key; its bytes are never logged.
    Key(Cow<'a, [u8]>),
}

/// Finds the key.
pub fn presented<'a>(auth: &KeyAuth, request: &Request<'a>) -> Presented<'a> {
    let mut found: Option<Cow<'a, [u8]>> = None;
    let mut seen = 0_usize;
    if auth.in_header {
        for (name, value) in request.headers {
            if auth.header_names.iter().any(|n| **n == **name) {
                seen += 1;
                found = Some(Cow::Borrowed(value.as_bytes()));
            }
        }
    }
    if auth.in_query && !request.query.is_empty() {
        for pair in request.query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if is_key_name(auth, name) {
                seen += 1;
                found = Some(canonical::decode_argument(value));
            }
        }
    }
    match found {
        _ if seen > 1 => Presented::Duplicate,
        Some(key) if !key.is_empty() => Presented::Key(key),
        _ => Presented::None,
    }
}

/// Finds the key as the clients of OpenAI, Azure and Anthropic send it: as `Authorization: Bearer`, or in an `apikey`,
/// `api-key` or `x-api-key` header. The same key in several places is one key, and an empty value does not count. Another scheme of
/// `Authorization` is ignored: a proxy on the way may use it.
pub fn bearer<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Presented<'a> {
    let mut found = "";
    for (name, value) in headers {
        let key = match name {
            "authorization" => {
                let (scheme, key) = value.split_once(' ').unwrap_or((value, ""));
                if !scheme.eq_ignore_ascii_case("bearer") {
                    continue;
                }
                key.trim()
            }
            "apikey" | "api-key" | "x-api-key" => value.trim(),
            _ => continue,
        };
        if !key.is_empty() && !found.is_empty() && key != found {
            return Presented::Duplicate;
        }
        if found.is_empty() {
            found = key;
        }
    }
    match found {
        "" => Presented::None,
        key => Presented::Key(Cow::Borrowed(key.as_bytes())),
    }
}

/// The query without the arguments that carry a key, for `hide_credentials`; the rest stays byte for byte.
/// Header fields to drop are `KeyAuth::header_names`.
pub fn hidden_query<'a>(auth: &KeyAuth, query: &'a str) -> Cow<'a, str> {
    without(query, |name| is_key_name(auth, name))
}

/// The query of a call on `/v1` without the arguments that carry a key: the gateway reads no key there and sends none
/// upstream.
pub fn keyless_query(query: &str) -> Cow<'_, str> {
    const NAMES: [&[u8]; 4] = [b"apikey", b"api_key", b"api-key", b"x-api-key"];
    without(query, |name| NAMES.iter().any(|known| canonical::decode_argument(name).eq_ignore_ascii_case(known)))
}

/// The query of a call in Azure's dialect: without keys, and without the version of the API that the client speaks, which
/// concerns this gateway only.
pub fn azure_query(query: &str) -> Cow<'_, str> {
    const NAMES: [&[u8]; 5] = [b"apikey", b"api_key", b"api-key", b"x-api-key", b"api-version"];
    without(query, |name| NAMES.iter().any(|known| canonical::decode_argument(name).eq_ignore_ascii_case(known)))
}

fn without(query: &str, is_key: impl Fn(&str) -> bool) -> Cow<'_, str> {
    let carries_key = |pair: &&str| is_key(pair.split_once('=').map_or(*pair, |(name, _)| name));
    if !query.split('&').any(|pair| carries_key(&pair)) {
        return Cow::Borrowed(query);
    }
    let mut out = String::with_capacity(query.len());
    for pair in query.split('&').filter(|pair| !carries_key(pair)) {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(pair);
    }
    Cow::Owned(out)
}

fn is_key_name(auth: &KeyAuth, raw: &str) -> bool {
    let name = canonical::decode_argument(raw);
    auth.names.iter().any(|n| n.as_bytes() == name.as_ref())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::snapshot::Anonymous;
    use proptest::prelude::*;

    pub(crate) fn auth(names: &[&str]) -> KeyAuth {
        KeyAuth {
            names: names.iter().map(|n| (*n).into()).collect(),
            header_names: names.iter().map(|n| n.to_lowercase().into()).collect(),
            in_header: true,
            in_query: true,
            hide: false,
            run_on_preflight: true,
            challenge: "Key".into(),
            anonymous: Anonymous::Refused,
        }
    }

    fn find<'a>(auth: &KeyAuth, headers: &'a [(&'a str, &'a str)], query: &'a str) -> Presented<'a> {
        presented(auth, &Request { method: "GET", headers, query })
    }

    #[test]
    fn finds_one_key_in_header_or_query() {
        let auth = auth(&["apikey", "X-Key"]);
        for (headers, query, wanted) in [
            (vec![], "", Presented::None),
            (vec![("apikey", "k")], "", Presented::Key(b"k".into())),
            (vec![("x-key", "k")], "a=b", Presented::Key(b"k".into())),
            (vec![], "a=b&apikey=k%2B1+2&c", Presented::Key(b"k+1 2".into())),
            (vec![], "%61pikey=k", Presented::Key(b"k".into())),
            (vec![], "X-Key=k", Presented::Key(b"k".into())),
            (vec![], "x-key=k", Presented::None),
            (vec![("apikey", "")], "", Presented::None),
            (vec![], "apikey", Presented::None),
            (vec![("apikey", "k"), ("apikey", "k")], "", Presented::Duplicate),
            (vec![("apikey", "k"), ("x-key", "j")], "", Presented::Duplicate),
            (vec![("apikey", "k")], "apikey=k", Presented::Duplicate),
            (vec![("apikey", "")], "apikey=k", Presented::Duplicate),
            (vec![], "apikey=a&apikey=b", Presented::Duplicate),
        ] {
            assert_eq!(find(&auth, &headers, query), wanted, "{headers:?} {query}");
        }
    }

    #[test]
    fn one_key_is_found_in_all_its_places() {
        for (headers, wanted) in [
            (&[("authorization", "Bearer k")][..], Presented::Key(b"k".into())),
            (&[("authorization", "bearer  k ")], Presented::Key(b"k".into())),
            (&[("apikey", "k")], Presented::Key(b"k".into())),
            (&[("x-api-key", "k"), ("accept", "*/*")], Presented::Key(b"k".into())),
            (&[], Presented::None),
            (&[("authorization", "Bearer ")], Presented::None),
            (&[("authorization", "Bearer")], Presented::None),
            (&[("authorization", "Basic k")], Presented::None),
            (&[("authorization", "Basic dTpw"), ("apikey", "k")], Presented::Key(b"k".into())),
            (&[("x-api-key", "k"), ("authorization", "Basic dTpw")], Presented::Key(b"k".into())),
            (&[("api-key", "k")], Presented::Key(b"k".into())),
            (&[("authorization", "Bearer"), ("apikey", "k")], Presented::Key(b"k".into())),
            (&[("apikey", "k"), ("authorization", "Bearer")], Presented::Key(b"k".into())),
            (&[("authorization", "Bearer k"), ("api-key", "k")], Presented::Key(b"k".into())),
            (&[("authorization", "Bearer k"), ("authorization", "Bearer k")], Presented::Key(b"k".into())),
            (&[("authorization", "Bearer k"), ("api-key", "j")], Presented::Duplicate),
            (&[("authorization", "Bearer k"), ("authorization", "Bearer j")], Presented::Duplicate),
            (&[("apikey", "k"), ("x-api-key", "j")], Presented::Duplicate),
        ] {
            assert_eq!(bearer(headers.iter().copied()), wanted, "{headers:?}");
        }
    }

    #[test]
    fn switched_off_headers_and_query_are_not_searched() {
        let mut auth = auth(&["apikey"]);
        auth.in_query = false;
        assert_eq!(find(&auth, &[], "apikey=k"), Presented::None);
        auth.in_query = true;
        auth.in_header = false;
        assert_eq!(find(&auth, &[("apikey", "k")], "apikey=j"), Presented::Key(b"j".into()));
    }

    #[test]
    fn hiding_keeps_the_rest_of_the_query() {
        let auth = auth(&["apikey"]);
        for (query, wanted) in [
            ("", ""),
            ("a=b", "a=b"),
            ("apikey=k", ""),
            ("a=%20&apikey=k&b", "a=%20&b"),
            ("%61pikey=k&a=+", "a=+"),
            ("apikeys=1", "apikeys=1"),
        ] {
            assert_eq!(hidden_query(&auth, query), wanted);
        }
    }

    #[test]
    fn no_key_in_a_query_goes_upstream() {
        assert_eq!(keyless_query("a=%20&API_KEY=k&%61pikey=k&x-api-key&b"), "a=%20&b");
        assert_eq!(keyless_query("api-version=1&key=2"), "api-version=1&key=2");
    }

    proptest! {
        #[test]
        fn nothing_of_a_key_survives_hiding(pairs in prop::collection::vec("(apikey|%61pikey|a|b)(=[x%+]{0,3})?", 0..6)) {
            let auth = auth(&["apikey"]);
            let query = pairs.join("&");
            let hidden = hidden_query(&auth, &query).into_owned();
            prop_assert_eq!(find(&auth, &[], &hidden), Presented::None);
            let kept = pairs.iter().filter(|p| !p.contains("pikey")).count();
            prop_assert_eq!(hidden.split('&').filter(|p| !p.is_empty()).count(), kept);
        }
    }
}
