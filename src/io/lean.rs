//! Plain consumers of a file, with their keys, as the store is to hold them: identities, and the texts of their records.
//!
//! In: who they are, and the HMAC of each one's key. Out: ids and hashes of the content, made once; bodies and origins, written
//! when they are asked for, so that a hundred thousand of them are a few megabytes. All of it is what the control plane's general
//! way makes of the same consumers (`entity_id`, `content_hash`, `Origin.text`): its tests compare. It knows no key.

use std::collections::HashMap;
use std::fmt::Write as _;

use aigw_core::snapshot::Uuid;
use ring::digest::{SHA256, digest};

/// Below which ids of a file's entities are made: `NAMESPACE` in Python.
const NAMESPACE: Uuid =
    Uuid::from_bytes([0x5f, 0x2b, 0x0e, 0x0c, 0x6f, 0x0a, 0x5d, 0x4e, 0x9d, 0x3c, 0x0a, 0x1e, 0x6b, 0x7c, 0x8d, 0x90]);
/// Keys so long have a hint: their last characters.
const HINTED: usize = 16;
/// How many.
const HINT: usize = 4;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// One consumer and its key.
#[derive(Debug)]
pub struct Lean {
    /// The consumer's id.
    pub id: Uuid,
    /// Its name.
    pub username: Box<str>,
    /// Its tier: an index into [`Leans::tiers`].
    pub tier: Option<usize>,
    /// Where it stands.
    pub line: usize,
    /// Of its content.
    pub hash: Short,
    /// The credential's id.
    pub key_id: Uuid,
    /// The HMAC of its key.
    pub digest: [u8; 32],
    /// The end of its key, by which its owner knows it.
    pub hint: Box<str>,
    /// Where the credential stands.
    pub key_line: usize,
    /// Of its content.
    pub key_hash: Short,
    /// The reference that its key is written as.
    pub written: Option<Box<str>>,
}

/// Half of a SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short(pub [u8; 16]);

/// All of one file, made at one time (unix seconds).
#[derive(Debug)]
pub struct Leans {
    file: String,
    now: u64,
    /// Ids.
    pub tiers: Vec<String>,
    /// In the order of the file.
    pub all: Vec<Lean>,
}

/// What is known of one before it is made. `key`: without one, its hash is what the file has.
#[derive(Debug)]
pub struct Named<'a> {
    /// See [`Lean`].
    pub username: &'a str,
    /// See [`Lean`].
    pub tier: Option<usize>,
    /// See [`Lean`].
    pub line: usize,
    /// Its last characters become the hint.
    pub key: Option<&'a str>,
    /// See [`Lean`].
    pub digest: [u8; 32],
    /// See [`Lean`].
    pub key_line: usize,
    /// See [`Lean`].
    pub written: Option<&'a str>,
}

impl Leans {
    /// Nobody yet.
    #[must_use]
    pub fn new(file: &str, now: u64, tiers: Vec<String>) -> Self {
        Self { file: quoted(file), now, tiers, all: Vec::new() }
    }

    /// One more.
    pub fn push(&mut self, named: &Named<'_>) {
        let Named { username, tier, line, key, digest, key_line, written } = *named;
        let id = entity_id(&["consumers", username]);
        let key_id = entity_id(&["keyauth_credentials", &id.to_string(), &hex(&digest)]);
        let hint = key.filter(|key| key.len() >= HINTED).and_then(|key| key.get(key.len() - HINT..)).unwrap_or("");
        let nothing = Short([0; 16]);
        let mut lean = Lean {
            id,
            username: username.into(),
            tier,
            line,
            hash: nothing,
            key_id,
            digest,
            hint: format!("...{hint}").into(),
            key_line,
            key_hash: nothing,
            written: written.map(Into::into),
        };
        let tier = tier.and_then(|tier| self.tiers.get(tier)).map_or("null".to_owned(), |tier| quoted(tier));
        lean.hash = short(&format!("[{},\"\",0,{tier}]", consumer_body(&lean, 0, 0)));
        let body = key_body(&lean, 0);
        let body = body.strip_suffix('}').unwrap_or(&body);
        lean.key_hash = short(&format!("[{body},\"updated_at\":0}},\"{}\",0,null]", hex(&digest)));
        self.all.push(lean);
    }

    /// The consumer's JSON, as the store keeps it, of one made at `made` (or now).
    #[must_use]
    pub fn body(&self, of: Kind, lean: &Lean, made: Option<u64>) -> String {
        let made = made.unwrap_or(self.now);
        match of {
            Kind::Consumer => consumer_body(lean, made, self.now),
            Kind::Key => key_body(lean, made),
        }
    }

    /// What the column `origin` is to hold of it.
    #[must_use]
    pub fn origin(&self, of: Kind, lean: &Lean) -> String {
        let (line, hash, written) = match of {
            Kind::Consumer => (lean.line, lean.hash, None),
            Kind::Key => (lean.key_line, lean.key_hash, lean.written.as_deref()),
        };
        let mut text = format!("{{\"file\":{},\"line\":{line},\"hash\":\"{}\"", self.file, hex(&hash.0));
        if let Some(written) = written {
            text.push_str(",\"written\":");
            text.push_str(&quoted(written));
        }
        text.push('}');
        text
    }

    /// Whether an origin says that the content is as it was: only its place may differ, and how its key is written.
    #[must_use]
    pub fn same(of: Kind, lean: &Lean, origin: &str) -> bool {
        let hash = if of == Kind::Consumer { lean.hash } else { lean.key_hash };
        // No text in JSON holds a bare quote: the mark stands where the hash is.
        let mut parts = origin.split(",\"hash\":\"").skip(1);
        parts.next().is_some_and(|rest| rest.starts_with(&hex(&hash.0)))
    }

    /// Two whose keys have the same HMAC: the later, and the one before it.
    #[must_use]
    pub fn twins(&self) -> Vec<(usize, usize)> {
        let mut first = HashMap::with_capacity(self.all.len());
        let twin = |(at, lean): (usize, &Lean)| {
            let before = *first.entry(lean.digest).or_insert(at);
            (before != at).then_some((at, before))
        };
        self.all.iter().enumerate().filter_map(twin).collect()
    }
}

/// Which half of one is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The consumer.
    Consumer,
    /// Its credential.
    Key,
}

impl Lean {
    /// The id of that half.
    #[must_use]
    pub fn id(&self, of: Kind) -> Uuid {
        if of == Kind::Consumer { self.id } else { self.key_id }
    }
}

fn consumer_body(lean: &Lean, made: u64, changed: u64) -> String {
    let (id, username) = (lean.id, quoted(&lean.username));
    format!(
        "{{\"id\":\"{id}\",\"created_at\":{made},\"updated_at\":{changed},\"username\":{username},\"custom_id\":null,\"tags\":null}}"
    )
}

fn key_body(lean: &Lean, made: u64) -> String {
    let (id, owner, hint) = (lean.key_id, lean.id, quoted(&lean.hint));
    format!(
        "{{\"id\":\"{id}\",\"created_at\":{made},\"consumer\":{{\"id\":\"{owner}\"}},\"key\":null,\"key_hint\":{hint},\"tags\":null,\"ttl\":null}}"
    )
}

/// uuid5 of the parts with colons between them.
fn entity_id(parts: &[&str]) -> Uuid {
    Uuid::new_v5(&NAMESPACE, parts.join(":").as_bytes())
}

fn short(text: &str) -> Short {
    Short(digest(&SHA256, text.as_bytes()).as_ref().first_chunk().copied().unwrap_or_default())
}

/// Lower-case hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}

/// As JSON, with the escapes that the control plane's own encoder writes.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    if !text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        out.push_str(text);
        out.push('"');
        return out;
    }
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            // Writing to a text cannot fail.
            c if u32::from(c) < 0x20 => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn texts_are_json_with_the_usual_escapes() {
        assert_eq!(quoted("a\"b\\c\n\t\u{1}\u{7f}é"), "\"a\\\"b\\\\c\\n\\t\\u0001\u{7f}é\"");
        let text = "\"\\\n\r\t\u{8}\u{c}\u{1f}x";
        assert_eq!(quoted(text), serde_json::to_string(text).unwrap());
    }

    #[test]
    fn the_same_content_is_known_whatever_its_place() {
        let named = |key_line| Named {
            username: "a",
            tier: Some(0),
            line: 1,
            key: Some("key-0123456789abcdef"),
            digest: [7; 32],
            key_line,
            written: Some("${A}"),
        };
        let mut before = Leans::new("f\",\"hash\":\".yaml", 5, vec!["t".to_owned()]);
        before.push(&named(2));
        let mut after = Leans::new("g.yaml", 6, vec!["t".to_owned()]);
        after.push(&named(3));
        let (old, new) = (&before.all[0], &after.all[0]);
        assert_ne!(before.origin(Kind::Key, old), after.origin(Kind::Key, new));
        for of in [Kind::Consumer, Kind::Key] {
            assert!(Leans::same(of, new, &before.origin(of, old)));
        }
        assert!(!Leans::same(Kind::Consumer, new, &before.origin(Kind::Key, old)));
        assert_eq!(after.twins(), []);
        after.push(&Named { username: "b", ..named(4) });
        assert_eq!(after.twins(), [(1, 0)]);
    }
}
