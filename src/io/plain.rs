//! A file's plain consumers: a username, perhaps a tier, and one key, as nearly all of a large file are.
//!
//! In: a parsed file. Out: those of its list `consumers` that would pass every check of one consumer by itself, or would once
//! the reference in their key has a value. What is in any way else is left to the checks that say what is wrong with it.

use crate::yaml::{Content, Document, NodeId, Step};

/// Characters of the longest name.
const LONGEST: usize = 1024;
/// Characters of the longest key.
const LONGEST_KEY: usize = 512;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain<'a> {
    /// Its position in the list.
    pub place: usize,
    /// Where it begins.
    pub line: usize,
    /// Its name.
    pub username: &'a str,
    /// The name of its tier.
    pub tier: Option<&'a str>,
    /// What its credential has.
    pub key: Key<'a>,
    /// Where its credential begins.
    pub key_line: usize,
}

/// What opens for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// The key, or a text with references in it: then nobody knows yet what it is.
    Text(&'a str),
    /// 64 hex digits of either case.
    Hash(&'a str),
}

/// All of them, in order.
#[must_use]
pub fn plain<S: AsRef<[u8]>>(document: &Document<S>) -> Vec<Plain<'_>> {
    let Some((_, list)) = document.find(&[Step::Key("consumers".to_owned())]) else { return Vec::new() };
    if !matches!(document.content(list), Content::Sequence(..)) {
        return Vec::new();
    }
    let items = document.children(list).iter().enumerate();
    items.filter_map(|(place, &item)| one(document, place, item)).collect()
}

fn one<S: AsRef<[u8]>>(document: &Document<S>, place: usize, item: NodeId) -> Option<Plain<'_>> {
    let (mut username, mut tier, mut credentials) = (None, None, None);
    for pair in mapping(document, item)?.chunks_exact(2) {
        match document.text(pair[0]) {
            "username" => username = Some(text(document, pair[1])?),
            "tier" if document.content(pair[1]) == Content::Null => {}
            "tier" => tier = Some(text(document, pair[1])?),
            "keyauth_credentials" => credentials = Some(pair[1]),
            _ => return None,
        }
    }
    let username = username.filter(|name| is_name(name) && !refers(name))?;
    if tier.is_some_and(|name| name.is_empty() || name.chars().count() > LONGEST || refers(name)) {
        return None;
    }
    let credentials = credentials.filter(|list| matches!(document.content(*list), Content::Sequence(..)))?;
    let &[credential] = document.children(credentials) else { return None };
    let &[field, value] = mapping(document, credential)? else { return None };
    let value = text(document, value)?;
    let key = match document.text(field) {
        "key" if is_key(value) || refers(value) => Key::Text(value),
        "key_hash" if value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit()) => Key::Hash(value),
        _ => return None,
    };
    let (line, key_line) = (document.line(item), document.line(credential));
    Some(Plain { place, line, username, tier, key, key_line })
}

fn mapping<S: AsRef<[u8]>>(document: &Document<S>, node: NodeId) -> Option<&[NodeId]> {
    matches!(document.content(node), Content::Mapping(..)).then(|| document.children(node))
}

fn text<S: AsRef<[u8]>>(document: &Document<S>, node: NodeId) -> Option<&str> {
    matches!(document.content(node), Content::Borrowed(..) | Content::Owned(_)).then(|| document.text(node))
}

fn is_name(name: &str) -> bool {
    let is_plain = |c: char| !(c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'));
    (1..=LONGEST).contains(&name.chars().count()) && name.chars().all(is_plain)
}

fn is_key(key: &str) -> bool {
    (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}

fn refers(text: &str) -> bool {
    text.contains("${")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::yaml::load;

    #[test]
    fn only_plain_ones_are_found_with_their_lines() {
        let hash = "aB".repeat(32);
        let file = format!(
            "tiers: {{}}\nconsumers:\n- username: a\n  tier: t\n  keyauth_credentials:\n  - key: k\n\
             - {{username: b, keyauth_credentials: [{{key: k2}}], tags: [x]}}\n\
             - {{keyauth_credentials: [{{key_hash: {hash}}}], tier: ~, username: c}}\n\
             - {{username: '${{A}}', keyauth_credentials: [{{key: k3}}]}}\n\
             - {{username: d, keyauth_credentials: [{{key: 'x ${{A}}'}}]}}\n\
             - {{username: e, keyauth_credentials: [{{key: 'x y'}}]}}\n\
             - {{username: f, keyauth_credentials: [{{key: x}}, {{key: y}}]}}\n- g\n"
        );
        let document = load(file.as_bytes()).unwrap();
        let a = Plain { place: 0, line: 3, username: "a", tier: Some("t"), key: Key::Text("k"), key_line: 6 };
        let c = Plain { place: 2, line: 8, username: "c", tier: None, key: Key::Hash(&hash), key_line: 8 };
        let d = Plain { place: 4, line: 10, username: "d", tier: None, key: Key::Text("x ${A}"), key_line: 10 };
        assert_eq!(plain(&document), [a, c, d]);
        for other in ["consumers: {}", "consumers: x", "tiers: {}", "[]", ""] {
            assert_eq!(plain(&load(other.as_bytes()).unwrap()), [], "{other}");
        }
    }
}
