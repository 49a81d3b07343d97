//! Consumers of a configuration file, with their credentials and acls: a file may hold a hundred thousand of them.
//!
//! `read` turns a parsed file into [`Consumer`]s and applies every rule for one consumer. `repeats` finds names, keys and
//! groups that occur twice. `rows` makes the records of the store: ids, content hashes, JSON. `compare` finds the rows
//! that differ from the store. A consumer that breaks a rule is only named by its index: the control plane explains the
//! error, since its schema owns the messages.

pub mod compare;
pub mod read;
pub mod repeats;
pub mod rows;

use std::hash::{Hash as _, Hasher};

use ring::digest::{Context, SHA256};

/// All consumers of one file, in the order of the file.
#[derive(Debug, Default)]
pub struct FileConsumers {
    /// Consumers that follow every rule for one consumer.
    pub consumers: Vec<Consumer>,
    /// Consumers that break a rule.
    pub invalid: Vec<Invalid>,
    /// Names of the tiers that `consumers` refer to, each once.
    pub tiers: Vec<Box<str>>,
}

impl FileConsumers {
    /// Whether the control plane needs the values of a list item: it reads plugins, and explains invalid consumers.
    #[must_use]
    pub fn needs_value(&self, index: usize) -> bool {
        self.consumers.binary_search_by_key(&index, |one| one.index).map_or(true, |at| self.consumers[at].has_plugins)
    }

    /// A digest of everything that the file says of its consumers, lines included. It tells of keys: nobody may see it unkeyed.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut sum = Sum(Context::new(&SHA256));
        (&self.consumers, &self.tiers).hash(&mut sum);
        let mut digest = [0; 32];
        digest.copy_from_slice(sum.0.finish().as_ref());
        digest
    }

    /// Every entity of a kind: its line, its consumer's index in the file's list, and its own index in the consumer.
    pub fn positions(&self, kind: EntityKind) -> impl Iterator<Item = (usize, usize, usize)> {
        self.consumers.iter().flat_map(move |one| {
            let (consumer, credentials, acls) = match kind {
                EntityKind::Consumer => (Some(one.line), &[][..], &[][..]),
                EntityKind::Credential => (None, &one.credentials[..], &[][..]),
                EntityKind::Acl => (None, &[][..], &one.acls[..]),
            };
            let lines = credentials.iter().map(|key| key.line).chain(acls.iter().map(|acl| acl.line));
            consumer.into_iter().chain(lines).enumerate().map(|(part, line)| (line, one.index, part))
        })
    }
}

/// Every byte that is hashed, in one SHA-256.
struct Sum(Context);

impl Hasher for Sum {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

/// A consumer that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Index in the file's list.
    pub index: usize,
    /// Its username, if that is a text.
    pub username: Option<Box<str>>,
}

/// One consumer. It has a username, a custom id, or both.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Consumer {
    /// Index in the file's list.
    pub index: usize,
    /// Line of the file, from 1.
    pub line: usize,
    /// Unique name.
    pub username: Option<Box<str>>,
    /// Unique id in the operator's systems.
    pub custom_id: Option<Box<str>>,
    /// Labels, each once; `None` where the file has no list.
    pub tags: Tags,
    /// Its tier: an index into [`FileConsumers::tiers`].
    pub tier: Option<usize>,
    /// Whether the tier's name stands in `groups`.
    pub tier_in_groups: bool,
    /// Its API keys.
    pub credentials: Vec<Credential>,
    /// Its groups for the plugin `acl`.
    pub acls: Vec<Acl>,
    /// Whether it has plugins: the control plane reads those.
    pub has_plugins: bool,
}

/// Labels of an entity.
pub type Tags = Option<Vec<Box<str>>>;

impl Consumer {
    /// The name that people use: the username, or else the custom id.
    #[must_use]
    pub fn name(&self) -> &str {
        self.username.as_deref().or(self.custom_id.as_deref()).unwrap_or_default()
    }
}

/// A kind of entity that consumers of a file are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntityKind {
    /// A consumer.
    Consumer,
    /// A key-auth credential.
    Credential,
    /// An acl.
    Acl,
}

impl EntityKind {
    /// By the name of its table.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Consumer, Self::Credential, Self::Acl].into_iter().find(|kind| kind.name() == name)
    }

    /// The name of its table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Consumer => "consumers",
            Self::Credential => "keyauth_credentials",
            Self::Acl => "acls",
        }
    }
}

/// An API key of a consumer.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Credential {
    /// Line of the file, from 1.
    pub line: usize,
    /// The key, or its HMAC.
    pub key: Key,
    /// Labels.
    pub tags: Tags,
    /// Seconds that the key is valid for; 0 for ever.
    pub ttl: u32,
    /// The way the file writes the key, where it may be shown: the reference (`${VAR}`) that stands for it, or the mark before its
    /// HMAC (`hmac:1f2e3d4c:`, empty without one).
    pub reference: Option<Box<str>>,
}

/// A key as the file has it.
#[derive(PartialEq, Eq, Hash)]
pub enum Key {
    /// The key.
    Text(Box<str>),
    /// Its HMAC under the secret of the data folder.
    Hmac([u8; 32]),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(***)")
    }
}

/// A group of a consumer for the plugin `acl`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Acl {
    /// Line of the file, from 1.
    pub line: usize,
    /// Name of the group.
    pub group: Box<str>,
    /// Labels.
    pub tags: Tags,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(key: &str, line: usize) -> FileConsumers {
        let key = Key::Text(key.into());
        let credential = Credential { line, key, tags: None, ttl: 0, reference: None };
        let consumer = Consumer {
            index: 0,
            line: 1,
            username: Some("ann".into()),
            custom_id: None,
            tags: None,
            tier: Some(0),
            tier_in_groups: false,
            credentials: vec![credential],
            acls: Vec::new(),
            has_plugins: false,
        };
        FileConsumers { consumers: vec![consumer], invalid: Vec::new(), tiers: vec!["free".into()] }
    }

    #[test]
    fn digest_tells_every_change() {
        let digest = |file: FileConsumers| file.digest();
        assert_eq!(digest(file("one", 2)), digest(file("one", 2)));
        let tier = FileConsumers { tiers: vec!["pro".into()], ..file("one", 2) };
        let all = [file("one", 2), file("two", 2), file("one", 3), tier].map(digest);
        assert_eq!(std::collections::BTreeSet::from(all).len(), 4);
    }
}
