//! A parsed file -> its consumers, by the rules that hold for one consumer.
//!
//! In: the document, and the values of its references. Out: [`FileConsumers`]. The rules are those of `FileConsumer` in
//! `aigw/config/shape.py`, which describes them to people: a property test feeds both the same consumers.

use std::collections::HashMap;

use crate::yaml::{Content, Document, NodeId, Step};

use super::{Acl, Consumer, Credential, FileConsumers, Invalid, Key};

/// Most characters of a name or a group: a header value that every server takes.
const MAX_NAME: usize = 1024;
/// Most characters of a tag, as in Kong.
const MAX_TAG: usize = 128;
/// Most bytes of a key, as in Kong.
const MAX_KEY: usize = 512;
/// The beginning of Kong's references, which decK writes in place of a key: no key begins so.
const VAULT: &str = "{vault://";
/// Longest time to live in seconds, about three years, as in Kong.
const MAX_TTL: i64 = 100_000_000;

/// The value of a text that holds references.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The text with values in place of references.
    pub value: Box<str>,
    /// Whether the text is one reference and nothing else, so that it may stand for a number.
    pub is_whole: bool,
    /// The reference itself, where it may be shown in place of a secret.
    pub shown: Option<Box<str>>,
}

/// Values of the file's references, by node.
#[derive(Debug, Default)]
pub struct References(HashMap<NodeId, Resolved>);

impl References {
    /// Adds the value of the text at a path. A path that does not exist is ignored.
    pub fn insert<S: AsRef<[u8]>>(&mut self, document: &Document<S>, path: &[Step], resolved: Resolved) {
        if let Some((_, node)) = document.find(path) {
            self.0.insert(document.target(node), resolved);
        }
    }
}

/// Reads the list `consumers`. A file without such a list has no consumers.
#[must_use]
pub fn read<S: AsRef<[u8]>>(document: &Document<S>, references: &References) -> FileConsumers {
    let mut found = FileConsumers::default();
    let Some((_, list)) = document.find(&[Step::Key("consumers".to_owned())]) else { return found };
    if !matches!(document.content(list), Content::Sequence(..)) {
        return found;
    }
    let reader = Reader { document, references };
    let mut tiers = HashMap::new();
    for (index, &item) in document.children(list).iter().enumerate() {
        let Some(mut consumer) = reader.consumer(index, item) else {
            let username = reader.username(item).map(Into::into);
            found.invalid.push(Invalid { index, username });
            continue;
        };
        consumer.fields.tier = consumer.tier.map(|(name, in_groups)| {
            consumer.fields.tier_in_groups = in_groups;
            *tiers.entry(name).or_insert_with(|| {
                found.tiers.push(name.into());
                found.tiers.len() - 1
            })
        });
        found.consumers.push(consumer.fields);
    }
    found
}

/// A consumer whose tier is a name yet.
struct Named<'a> {
    fields: Consumer,
    /// The name of the tier, and whether it stands in `groups`.
    tier: Option<(&'a str, bool)>,
}

/// Reads values of the document. `None` always means: this breaks a rule.
struct Reader<'a, S> {
    document: &'a Document<S>,
    references: &'a References,
}

impl<'a, S: AsRef<[u8]>> Reader<'a, S> {
    fn consumer(&self, index: usize, item: NodeId) -> Option<Named<'a>> {
        let mut fields = Consumer {
            index,
            line: self.document.line(item),
            username: None,
            custom_id: None,
            tags: None,
            tier: None,
            tier_in_groups: false,
            credentials: Vec::new(),
            acls: Vec::new(),
            has_plugins: false,
        };
        let (mut tier, mut groups) = (None, Vec::new());
        for pair in self.mapping(item)?.chunks_exact(2) {
            let value = pair[1];
            if self.is_null(value) && is_field(self.document.text(pair[0])) {
                continue;
            }
            match self.document.text(pair[0]) {
                "username" => fields.username = Some(self.name(value)?.into()),
                "custom_id" => fields.custom_id = Some(self.name(value)?.into()),
                "tags" => fields.tags = Some(self.tags(value)?),
                "tier" => tier = Some((self.reference(value)?, false)),
                "groups" => groups = self.groups(value)?,
                "keyauth_credentials" => fields.credentials = self.each(value, |item| self.credential(item))?,
                "acls" => fields.acls = self.each(value, |item| self.acl(item))?,
                "plugins" => fields.has_plugins = !self.list(value)?.is_empty(),
                _ => return None,
            }
        }
        let has_name = fields.username.is_some() || fields.custom_id.is_some();
        let group = groups.first().map(|&name| (name, true));
        let one_tier = groups.len() < 2 && tier.zip(group).is_none_or(|((tier, _), (group, _))| tier == group);
        (has_name && one_tier).then_some(Named { fields, tier: tier.or(group) })
    }

    fn credential(&self, item: NodeId) -> Option<Credential> {
        let (mut key, mut hmac, mut tags, mut ttl) = (None, None, None, 0);
        for pair in self.mapping(item)?.chunks_exact(2) {
            let value = pair[1];
            match self.document.text(pair[0]) {
                "key" | "key_hash" | "tags" | "ttl" if self.is_null(value) => {}
                "key" => key = Some((self.key(value)?, self.resolved(value).and_then(|found| found.shown.clone()))),
                "key_hash" => hmac = Some(self.text(value).and_then(|text| Some((hmac_of(text)?, mark_of(text))))?),
                "tags" => tags = Some(self.tags(value)?),
                "ttl" => ttl = self.ttl(value)?,
                _ => return None,
            }
        }
        let (key, reference) = match (key, hmac) {
            (Some((key, shown)), None) => (Key::Text(key.into()), shown),
            (None, Some((hmac, mark))) => (Key::Hmac(hmac), Some(mark.into())),
            _ => return None,
        };
        Some(Credential { line: self.document.line(item), key, tags, ttl, reference })
    }

    fn acl(&self, item: NodeId) -> Option<Acl> {
        let (mut group, mut tags) = (None, None);
        for pair in self.mapping(item)?.chunks_exact(2) {
            match self.document.text(pair[0]) {
                "group" => group = Some(self.name(pair[1])?.into()),
                "tags" if self.is_null(pair[1]) => {}
                "tags" => tags = Some(self.tags(pair[1])?),
                _ => return None,
            }
        }
        Some(Acl { line: self.document.line(item), group: group?, tags })
    }

    /// The names in decK's list of groups.
    fn groups(&self, list: NodeId) -> Option<Vec<&'a str>> {
        self.each(list, |item| {
            let mut name = None;
            for pair in self.mapping(item)?.chunks_exact(2) {
                match self.document.text(pair[0]) {
                    "name" => name = Some(self.reference(pair[1])?),
                    "tags" if self.is_null(pair[1]) => {}
                    "tags" => drop(self.tags(pair[1])?),
                    _ => return None,
                }
            }
            name
        })
    }

    /// The username of an item that breaks a rule, if it is a text.
    fn username(&self, item: NodeId) -> Option<&'a str> {
        let pairs = self.mapping(item)?.chunks_exact(2);
        let mut named = pairs.filter(|pair| self.document.text(pair[0]) == "username");
        self.text(named.next()?[1])
    }

    /// Printable text of 1 to [`MAX_NAME`] characters.
    fn name(&self, node: NodeId) -> Option<&'a str> {
        self.text(node).filter(|text| is_printable(text, MAX_NAME))
    }

    /// Any text of 1 to [`MAX_NAME`] characters: the name of another entity.
    fn reference(&self, node: NodeId) -> Option<&'a str> {
        self.text(node).filter(|text| (1..=MAX_NAME).contains(&text.chars().count()))
    }

    fn key(&self, node: NodeId) -> Option<&'a str> {
        let is_key = |text: &&str| (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        self.text(node).filter(is_key).filter(|key| !key.starts_with(VAULT))
    }

    fn tags(&self, list: NodeId) -> Option<Vec<Box<str>>> {
        let mut tags: Vec<Box<str>> = Vec::new();
        for &item in self.list(list)? {
            let tag = self.text(item).filter(|tag| is_printable(tag, MAX_TAG) && !tag.contains([',', '/']))?;
            if !tags.iter().any(|seen| &**seen == tag) {
                tags.push(tag.into());
            }
        }
        Some(tags)
    }

    fn ttl(&self, node: NodeId) -> Option<u32> {
        let seconds = match (self.document.content(node), self.resolved(node)) {
            (Content::Int(seconds), _) => seconds,
            (_, Some(resolved)) if resolved.is_whole && is_integer(&resolved.value) => resolved.value.parse().ok()?,
            _ => return None,
        };
        (0..=MAX_TTL).contains(&seconds).then(|| u32::try_from(seconds).ok())?
    }

    fn each<T>(&self, list: NodeId, read: impl FnMut(NodeId) -> Option<T>) -> Option<Vec<T>> {
        self.list(list)?.iter().copied().map(read).collect()
    }

    fn list(&self, node: NodeId) -> Option<&'a [NodeId]> {
        matches!(self.document.content(node), Content::Sequence(..)).then(|| self.document.children(node))
    }

    fn mapping(&self, node: NodeId) -> Option<&'a [NodeId]> {
        matches!(self.document.content(node), Content::Mapping(..)).then(|| self.document.children(node))
    }

    fn text(&self, node: NodeId) -> Option<&'a str> {
        if !matches!(self.document.content(node), Content::Borrowed(..) | Content::Owned(_)) {
            return None;
        }
        Some(self.resolved(node).map_or_else(|| self.document.text(node), |resolved| &resolved.value))
    }

    fn resolved(&self, node: NodeId) -> Option<&'a Resolved> {
        if self.references.0.is_empty() { None } else { self.references.0.get(&self.document.target(node)) }
    }

    fn is_null(&self, node: NodeId) -> bool {
        self.document.content(node) == Content::Null
    }
}

fn is_field(name: &str) -> bool {
    matches!(name, "username" | "custom_id" | "tags" | "tier" | "groups" | "keyauth_credentials" | "acls" | "plugins")
}

/// Whether a text is 1 to `most` characters without control characters and line separators.
fn is_printable(text: &str, most: usize) -> bool {
    let printable = |c: char| !(c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'));
    (1..=most).contains(&text.chars().count()) && text.chars().all(printable)
}

/// An integer as a reference may stand for it: an optional sign and at most 18 digits, which fit 64 bits.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    (1..=18).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The HMAC that 64 hex digits of either case spell, with or without the mark of the secret before them (`hmac:1f2e3d4c:`).
fn hmac_of(text: &str) -> Option<[u8; 32]> {
    let text = text.strip_prefix(mark_of(text))?;
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|n| u8::try_from(n).ok())).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

/// The mark before the digits of an HMAC, with its `hmac:` and its colon; empty without one.
fn mark_of(text: &str) -> &str {
    const LEN: usize = "hmac:1f2e3d4c:".len();
    let is_mark = |mark: &str| mark.len() == 8 && mark.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match text.strip_prefix("hmac:").and_then(|rest| rest.split_once(':')) {
        Some((mark, _)) if is_mark(mark) => &text[..LEN],
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::yaml::load;

    fn consumers(text: &str) -> FileConsumers {
        read(&load(text.as_bytes()).unwrap(), &References::default())
    }

    #[test]
    fn read_finds_consumers_with_their_lines() {
        let found = consumers(
            "consumers:\n- username: a\n  tier: t\n  keyauth_credentials:\n  - key: k\n  - {key: l, ttl: 60, tags: [x, x]}\n\
             - {custom_id: c, groups: [{name: u}], acls: [{group: g, tags: []}], plugins: [1], tags: ~}\n",
        );
        assert_eq!(found.invalid, []);
        let [a, c] = &found.consumers[..] else { panic!("{found:?}") };
        assert_eq!((a.index, a.line, a.name(), a.tier), (0, 2, "a", Some(0)));
        assert_eq!(a.credentials.iter().map(|key| (key.line, key.ttl)).collect::<Vec<_>>(), [(5, 0), (6, 60)]);
        assert_eq!(a.credentials[1].tags.as_deref(), Some(&["x".into()][..]));
        assert_eq!((c.index, c.line, c.name(), c.tier, c.has_plugins), (1, 7, "c", Some(1), true));
        assert_eq!((&*c.acls[0].group, c.acls[0].tags.as_deref()), ("g", Some(&[][..])));
        assert_eq!(found.tiers, ["t".into(), "u".into()]);
        assert_eq!((a.tier_in_groups, c.tier_in_groups), (false, true));
    }

    #[test]
    fn read_names_consumers_that_break_a_rule() {
        for wrong in [
            "x",
            "{}",
            "{username: ''}",
            "{username: 1}",
            "{username: a, id: b}",
            "{username: a, tags: [1]}",
            "{username: a, tags: ['a,b']}",
            "{username: a, tier: ''}",
            "{username: a, tier: t, groups: [{name: u}]}",
            "{username: a, groups: [{name: t}, {name: t}]}",
            "{username: a, groups: [{}]}",
            "{username: a, acls: [{group: ~}]}",
            "{username: a, keyauth_credentials: {}}",
            "{username: a, keyauth_credentials: [{}]}",
            "{username: a, keyauth_credentials: [{key: 'a b'}]}",
            "{username: a, keyauth_credentials: [{key: a, key_hash: b}]}",
            "{username: a, keyauth_credentials: [{key_hash: b}]}",
            "{username: a, keyauth_credentials: [{key: a, ttl: -1}]}",
            "{username: a, keyauth_credentials: [{key: a, ttl: 1.0}]}",
            "{username: a, keyauth_credentials: [{key: a, ttl: true}]}",
            "{username: a, plugins: {}}",
        ] {
            let found = consumers(&format!("consumers: [{wrong}, {{username: b}}]"));
            assert_eq!(found.invalid.len(), 1, "{wrong}");
            assert_eq!(found.invalid[0].index, 0, "{wrong}");
            assert_eq!(found.consumers.len(), 1, "{wrong}");
        }
        for other in ["consumers: {}", "consumers: x", "tiers: {}", "[]", ""] {
            assert!(consumers(other).consumers.is_empty(), "{other}");
        }
    }

    #[test]
    fn references_stand_for_their_values_also_behind_an_alias() {
        let text = "consumers:\n- {username: a, keyauth_credentials: [&k {key: '${A}', ttl: '${T}'}]}\n\
                    - {username: '${A}', keyauth_credentials: [*k]}\n";
        let document = load(text.as_bytes()).unwrap();
        let mut references = References::default();
        for path in document.containing("${") {
            let ttl = path.last() == Some(&Step::Key("ttl".to_owned()));
            let (value, shown) = if ttl { ("+60", None) } else { ("key-a", Some("${A}".into())) };
            references.insert(&document, &path, Resolved { value: value.into(), is_whole: true, shown });
        }
        let found = read(&document, &references);
        assert_eq!(found.consumers.len(), 2, "{found:?}");
        assert_eq!(found.consumers[1].name(), "key-a");
        for consumer in &found.consumers {
            let [key] = &consumer.credentials[..] else { panic!("{consumer:?}") };
            assert_eq!((&key.key, key.ttl, key.reference.as_deref()), (&Key::Text("key-a".into()), 60, Some("${A}")));
        }
    }

    #[test]
    fn key_is_never_in_debug_output() {
        assert!(
            !format!("{:?}", consumers("consumers: [{username: a, keyauth_credentials: [{key: hide-me}]}]"))
                .contains("hide-me")
        );
    }
}
