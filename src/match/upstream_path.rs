//! The path that is sent upstream (Kong's `path_handling: v0`).
//!
//! In: the service's own path (already in wire form), the canonical request path, the number of its bytes that the route
//! covered. Out: the wire form of service path + rest, joined by exactly one `/`. Invariant: the result holds no dot
//! segment; a cut that would make one (`/ai` cut from `/ai../x`) is refused. The query is not touched here.

use std::borrow::Cow;

use super::canonical::{self, BadPath, CanonicalPath};

/// The upstream path. `matched` is [`super::Matched::prefix_len`]; it counts only when `strip` is true.
pub fn upstream_path<'a>(
    service_path: Option<&str>,
    path: CanonicalPath<'a>,
    matched: usize,
    strip: bool,
) -> Result<Cow<'a, str>, BadPath> {
    let whole = path.as_str();
    let rest = if strip { whole.get(matched..).unwrap_or("") } else { whole };
    let tail = rest.strip_prefix('/').unwrap_or(rest);
    if tail.len() != whole.len() - 1 && tail.split('/').next().is_some_and(canonical::is_dot_segment) {
        return Err(BadPath::DotSegment);
    }
    if tail.starts_with('/') {
        return Err(BadPath::EmptySegment);
    }
    let base = service_path.unwrap_or("/");
    let stem = base.strip_suffix('/').unwrap_or(base);
    if stem.is_empty() && rest.starts_with('/') {
        return Ok(canonical::encode(rest));
    }
    let mut out = String::with_capacity(stem.len() + rest.len() + 8);
    out.push_str(stem);
    if !tail.is_empty() {
        out.push('/');
        canonical::encode_into(&mut out, tail);
    } else if ends_with_slash(base, whole, rest) {
        out.push('/');
    }
    Ok(Cow::Owned(out))
}

/// Whether the result keeps a final slash when the request path has no rest to append.
fn ends_with_slash(base: &str, whole: &str, rest: &str) -> bool {
    if base == "/" {
        return true;
    }
    if whole == "/" {
        // A request for the root of the route gets the service's path as configured.
        return base.ends_with('/');
    }
    rest == "/" || whole.ends_with('/')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn upstream(service: Option<&str>, path: &str, matched: usize, strip: bool) -> String {
        upstream_path(service, CanonicalPath::new(path).unwrap(), matched, strip).unwrap().into_owned()
    }

    #[test]
    fn service_path_and_rest_meet_in_one_slash() {
        for (service, path, matched, strip, wanted) in [
            (None, "/ai/get", 3, true, "/get"),
            (None, "/ai", 3, true, "/"),
            (None, "/ai/", 3, true, "/"),
            (None, "/ai/get", 3, false, "/ai/get"),
            (None, "/aiget", 3, true, "/get"),
            (None, "/", 1, true, "/"),
            (Some("/"), "/get", 1, true, "/get"),
            (Some("/v1"), "/ai/get", 3, true, "/v1/get"),
            (Some("/v1/"), "/ai/get", 3, true, "/v1/get"),
            (Some("/v1"), "/ai", 3, true, "/v1"),
            (Some("/v1/"), "/ai", 3, true, "/v1"),
            (Some("/v1"), "/ai/", 3, true, "/v1/"),
            (Some("/v1/"), "/ai/", 4, true, "/v1/"),
            (Some("/v1"), "/", 1, true, "/v1"),
            (Some("/v1"), "/", 0, false, "/v1"),
            (Some("/v1/"), "/", 0, false, "/v1/"),
            (Some("/v1"), "/ai/get", 0, false, "/v1/ai/get"),
            (Some("/v1"), "/get", 1, true, "/v1/get"),
            (Some("/v1"), "/a b/%", 0, false, "/v1/a%20b/%25"),
        ] {
            assert_eq!(upstream(service, path, matched, strip), wanted, "{service:?} {path} {matched} {strip}");
        }
    }

    #[test]
    fn cutting_a_prefix_makes_no_dot_segment() {
        for path in ["/ai../secret", "/ai..", "/ai./x", "/ai..;a/x"] {
            assert_eq!(
                upstream_path(None, CanonicalPath::new(path).unwrap(), 3, true),
                Err(BadPath::DotSegment),
                "{path}"
            );
        }
    }

    proptest! {
        #[test]
        fn sent_paths_are_canonical(
            path in "/[a./;]{0,10}", matched in 0_usize..12, strip in any::<bool>(),
            service in prop::option::of(prop::sample::select(vec!["/", "/v1", "/v1/", "/a/b"])),
        ) {
            if let Ok(checked) = CanonicalPath::new(&path)
                && let Ok(sent) = upstream_path(service, checked, matched, strip)
            {
                prop_assert!(CanonicalPath::new(&sent).is_ok(), "{} -> {}", path, sent);
            }
        }
    }
}
