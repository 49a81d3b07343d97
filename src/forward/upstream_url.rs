//! Path and query of a model's call at one target.
//!
//! In: a target, an endpoint, the caller's query without keys. Out: base path + endpoint's path, then the target's query, then the
//! caller's arguments of other names. Bytes of the base URL and of the caller's arguments stay as they were written.

use crate::accept::openai::Endpoint;
use crate::balance::ModelTarget;
use crate::r#match::canonical;

/// Path and query, encoded.
pub fn path_and_query(target: &ModelTarget, endpoint: Endpoint, callers: &str) -> String {
    let own = &*target.query.text;
    let mut url = String::with_capacity(target.path.len() + endpoint.path().len() + own.len() + callers.len() + 2);
    url.push_str(&target.path);
    url.push_str(endpoint.path());
    let mut joint = '?';
    let mut add = |text: &str| {
        if !text.is_empty() {
            url.push(joint);
            url.push_str(text);
            joint = '&';
        }
    };
    add(own);
    if target.query.names.is_empty() {
        add(callers);
    } else {
        let taken = |pair: &str| {
            let name = canonical::decode_argument(pair.split('=').next().unwrap_or(pair));
            target.query.names.iter().any(|taken| **taken == *name)
        };
        callers.split('&').filter(|pair| !taken(pair)).for_each(add);
    }
    url
}
