//! A file's consumers, credentials and acls as rows of the store.
//!
//! In: the consumers, ids of tiers, and each credential's HMAC and hint. Out: ids and content hashes, made once; JSON bodies
//! and origins, written on demand, so that a hundred thousand rows take a few megabytes. The fields of a body, their order
//! and their defaults come from the control plane's entities ([`Shape`]). Invariant: an unchanged consumer keeps its ids and
//! hashes over versions, since the store of an older version holds them.

use std::collections::HashMap;
use std::sync::Arc;

use aigw_core::snapshot::Uuid;
use base16ct::lower::encode_string;
use ring::digest::{SHA256, digest};
use serde::Serialize;

use super::{Acl, Consumer, Credential, EntityKind, FileConsumers};

/// The namespace of ids of a file's entities: `NAMESPACE` in `aigw/config/entity.py`.
const NAMESPACE: Uuid =
    Uuid::from_bytes([0x5f, 0x2b, 0x0e, 0x0c, 0x6f, 0x0a, 0x5d, 0x4e, 0x9d, 0x3c, 0x0a, 0x1e, 0x6b, 0x7c, 0x8d, 0x90]);

/// The fields of a stored body: name, and the JSON of a field that a file cannot set.
pub type Shape = Vec<(String, String)>;

/// The first 16 bytes of the SHA-256 of an entity's content.
pub type ContentHash = [u8; 16];

/// One row: its id and content hash, and the entity that it is made of.
#[derive(Debug)]
pub struct Row {
    /// Entity id.
    pub id: Uuid,
    /// Hash of the content, without times.
    pub hash: ContentHash,
    /// Index into [`FileConsumers::consumers`].
    consumer: usize,
    /// Index of the credential or acl in its consumer.
    part: usize,
    /// Of a credential: HMAC and times.
    key: KeyFacts,
}

/// Of a credential: everything that its key and its time to live lead to.
#[derive(Debug, Default, Clone)]
struct KeyFacts {
    digest: [u8; 32],
    hint: Box<str>,
    created_at: Option<u64>,
    expires_at: u64,
}

impl Row {
    /// The content hash as hex digits.
    #[must_use]
    pub fn hash_text(&self) -> String {
        encode_string(&self.hash)
    }

    /// HMAC of a credential's key.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.key.digest
    }

    /// Unix seconds when a credential's key expires; 0 for never.
    #[must_use]
    pub fn expires_at(&self) -> u64 {
        self.key.expires_at
    }
}

/// Where and when the rows are declared.
#[derive(Debug)]
pub struct Declaration {
    /// Name of the file.
    pub file: String,
    /// Unix seconds: `created_at` of new rows.
    pub now: u64,
    /// Ids of [`FileConsumers::tiers`], in that order.
    pub tiers: Vec<String>,
    /// Shapes of consumers, credentials and acls.
    pub shapes: [Shape; 3],
    /// Lines that the rows stand further down in the file than their origins say.
    pub shift: i64,
}

/// The rows of all three kinds.
#[derive(Debug)]
pub struct Rows {
    file: Arc<FileConsumers>,
    declaration: Declaration,
    /// The file's name as JSON.
    file_json: String,
    consumers: Vec<Row>,
    credentials: Vec<Row>,
    acls: Vec<Row>,
}

impl Rows {
    /// Makes the rows. `keys`: HMAC and hint of each credential, in the order of [`FileConsumers::credentials`]. `since` maps
    /// ids of credentials with a time to live to the unix seconds when the file first declared them.
    pub fn new<E>(
        file: Arc<FileConsumers>,
        declaration: Declaration,
        keys: Vec<([u8; 32], Box<str>)>,
        since: impl FnOnce(Vec<Uuid>) -> Result<HashMap<Uuid, u64>, E>,
    ) -> Result<Self, E> {
        let file_json = json(&declaration.file);
        let mut rows =
            Self { file, declaration, file_json, consumers: Vec::new(), credentials: Vec::new(), acls: Vec::new() };
        rows.identify(keys);
        let timed = |row: &&Row| rows.credential(row).is_some_and(|key| key.ttl > 0);
        let ids: Vec<Uuid> = rows.credentials.iter().filter(timed).map(|row| row.id).collect();
        if !ids.is_empty() {
            rows.expire(&since(ids)?);
        }
        for kind in [EntityKind::Consumer, EntityKind::Credential, EntityKind::Acl] {
            let hashes: Vec<ContentHash> = rows.of(kind).iter().map(|row| rows.content_hash(kind, row)).collect();
            for (row, hash) in rows.of_mut(kind).iter_mut().zip(hashes) {
                row.hash = hash;
            }
        }
        Ok(rows)
    }

    fn identify(&mut self, keys: Vec<([u8; 32], Box<str>)>) {
        let file = Arc::clone(&self.file);
        let mut keys = keys.into_iter();
        for (at, consumer) in file.consumers.iter().enumerate() {
            let id = match (&consumer.username, &consumer.custom_id) {
                (Some(username), _) => entity_id(&["consumers", username]),
                (None, custom_id) => {
                    entity_id(&["consumers", &format!("custom_id\n{}", custom_id.as_deref().unwrap_or_default())])
                }
            };
            let owner = id.to_string();
            self.consumers.push(row(id, at, 0, KeyFacts::default()));
            for (part, _) in consumer.credentials.iter().enumerate() {
                let (digest, hint) = keys.next().unwrap_or_default();
                let id = entity_id(&["keyauth_credentials", &owner, &encode_string(&digest)]);
                self.credentials.push(row(id, at, part, KeyFacts { digest, hint, ..KeyFacts::default() }));
            }
            for (part, acl) in consumer.acls.iter().enumerate() {
                let id = entity_id(&["acls", &owner, &acl.group]);
                self.acls.push(row(id, at, part, KeyFacts::default()));
            }
        }
    }

    fn expire(&mut self, since: &HashMap<Uuid, u64>) {
        for row in &mut self.credentials {
            let credential = self.file.consumers.get(row.consumer).and_then(|one| one.credentials.get(row.part));
            let ttl = credential.map_or(0, |credential| credential.ttl);
            if ttl > 0 {
                let created_at = since.get(&row.id).copied().unwrap_or(self.declaration.now);
                row.key.created_at = Some(created_at);
                row.key.expires_at = created_at.saturating_add(u64::from(ttl));
            }
        }
    }

    /// The rows of one kind, in the order of the file.
    #[must_use]
    pub fn of(&self, kind: EntityKind) -> &[Row] {
        match kind {
            EntityKind::Consumer => &self.consumers,
            EntityKind::Credential => &self.credentials,
            EntityKind::Acl => &self.acls,
        }
    }

    fn of_mut(&mut self, kind: EntityKind) -> &mut [Row] {
        match kind {
            EntityKind::Consumer => &mut self.consumers,
            EntityKind::Credential => &mut self.credentials,
            EntityKind::Acl => &mut self.acls,
        }
    }

    /// The consumer that a row is, or belongs to.
    #[must_use]
    pub fn consumer(&self, row: &Row) -> Option<&Consumer> {
        self.file.consumers.get(row.consumer)
    }

    /// The id of the consumer that a row is, or belongs to.
    #[must_use]
    pub fn owner(&self, row: &Row) -> Option<Uuid> {
        self.consumers.get(row.consumer).map(|owner| owner.id)
    }

    fn credential(&self, row: &Row) -> Option<&Credential> {
        self.consumer(row)?.credentials.get(row.part)
    }

    fn acl(&self, row: &Row) -> Option<&Acl> {
        self.consumer(row)?.acls.get(row.part)
    }

    /// The id of a consumer's tier.
    #[must_use]
    pub fn tier(&self, row: &Row) -> Option<&str> {
        self.declaration.tiers.get(self.consumer(row)?.tier?).map(String::as_str)
    }

    /// The group of an acl.
    #[must_use]
    pub fn group(&self, row: &Row) -> &str {
        self.acl(row).map_or("", |acl| &acl.group)
    }

    /// Labels of a row.
    #[must_use]
    pub fn tags(&self, kind: EntityKind, row: &Row) -> &[Box<str>] {
        self.tags_of(kind, row).unwrap_or_default()
    }

    /// Id and custom id of a row without tags: the unique values of a consumer that the id does not decide.
    #[must_use]
    pub fn untagged(&self, kind: EntityKind, row: &Row) -> Option<(Uuid, Option<&str>)> {
        if self.tags_of(kind, row).is_some() {
            return None;
        }
        let custom_id = self.consumer(row)?.custom_id.as_deref().filter(|_| kind == EntityKind::Consumer);
        Some((row.id, custom_id))
    }

    fn tags_of(&self, kind: EntityKind, row: &Row) -> Option<&[Box<str>]> {
        match kind {
            EntityKind::Consumer => self.consumer(row)?.tags.as_deref(),
            EntityKind::Credential => self.credential(row)?.tags.as_deref(),
            EntityKind::Acl => self.acl(row)?.tags.as_deref(),
        }
    }

    /// The line in the row's origin, and the reference that a credential's key is written as.
    #[must_use]
    pub fn position(&self, kind: EntityKind, row: &Row) -> (i64, Option<&str>) {
        let (line, reference) = self.place(kind, row);
        (i64::try_from(line).unwrap_or(i64::MAX).saturating_sub(self.declaration.shift), reference)
    }

    /// The line in the file, from 1.
    fn place(&self, kind: EntityKind, row: &Row) -> (usize, Option<&str>) {
        match kind {
            EntityKind::Consumer => (self.consumer(row).map_or(0, |one| one.line), None),
            EntityKind::Credential => {
                self.credential(row).map_or((0, None), |key| (key.line, key.reference.as_deref()))
            }
            EntityKind::Acl => (self.acl(row).map_or(0, |acl| acl.line), None),
        }
    }

    /// The entity's JSON as the store keeps it. `created_at`: unix seconds, for a row that exists already.
    #[must_use]
    pub fn body(&self, kind: EntityKind, row: &Row, created_at: Option<u64>) -> String {
        let now = self.declaration.now;
        self.write_body(kind, row, row.key.created_at.or(created_at).unwrap_or(now), now)
    }

    fn write_body(&self, kind: EntityKind, row: &Row, created_at: u64, updated_at: u64) -> String {
        let mut out = String::with_capacity(256);
        for (at, (field, default)) in self.shape(kind).iter().enumerate() {
            out.push(if at == 0 { '{' } else { ',' });
            out.push_str(&json(field));
            out.push(':');
            match &**field {
                "created_at" => out.push_str(&created_at.to_string()),
                "updated_at" => out.push_str(&updated_at.to_string()),
                field => out.push_str(&self.value(kind, row, field).unwrap_or_else(|| default.clone())),
            }
        }
        out.push('}');
        out
    }

    /// The JSON of a field that the file sets; `None` for other fields.
    fn value(&self, kind: EntityKind, row: &Row, field: &str) -> Option<String> {
        let consumer = self.consumer(row)?;
        Some(match (kind, field) {
            (_, "id") => json(&row.id.to_string()),
            (_, "tags") => json(&self.tags_of(kind, row)),
            (EntityKind::Consumer, "username") => json(&consumer.username),
            (EntityKind::Consumer, "custom_id") => json(&consumer.custom_id),
            (EntityKind::Credential | EntityKind::Acl, "consumer") => {
                format!("{{\"id\":{}}}", json(&self.owner(row)?.to_string()))
            }
            (EntityKind::Credential, "key_hint") => json(&row.key.hint),
            (EntityKind::Acl, "group") => json(self.group(row)),
            _ => return None,
        })
    }

    fn shape(&self, kind: EntityKind) -> &Shape {
        let [consumer, credential, acl] = &self.declaration.shapes;
        match kind {
            EntityKind::Consumer => consumer,
            EntityKind::Credential => credential,
            EntityKind::Acl => acl,
        }
    }

    /// What `content_hash` in `aigw/control` makes of the same entity: the body without times, and the columns next to it.
    fn content_hash(&self, kind: EntityKind, row: &Row) -> ContentHash {
        let mut body = self.write_body(kind, row, 0, 0);
        if !self.shape(kind).iter().any(|(field, _)| field == "updated_at") {
            body.truncate(body.len() - 1);
            body.push_str(",\"updated_at\":0}");
        }
        let (hmac, tier) = match kind {
            EntityKind::Credential => (encode_string(&row.key.digest), None),
            EntityKind::Consumer => (String::new(), self.tier(row)),
            EntityKind::Acl => (String::new(), None),
        };
        let text = format!("[{body},\"{hmac}\",{},{}]", row.key.expires_at, json(&tier));
        digest(&SHA256, text.as_bytes()).as_ref().first_chunk().copied().unwrap_or_default()
    }

    /// The column `origin` of a row: file, line, content hash, and how its key is written in the file.
    #[must_use]
    pub fn origin(&self, kind: EntityKind, row: &Row) -> String {
        let (line, reference) = self.position(kind, row);
        let mut text =
            format!("{{\"file\":{},\"line\":{line},\"hash\":\"{}\"", self.file_json, encode_string(&row.hash));
        if let Some(reference) = reference {
            text.push_str(",\"written\":");
            text.push_str(&json(reference));
        }
        text.push('}');
        text
    }

    /// The name of a consumer, by id.
    #[must_use]
    pub fn name(&self, id: Uuid) -> Option<&str> {
        self.consumers.iter().find(|row| row.id == id).and_then(|row| self.consumer(row)).map(Consumer::name)
    }

    /// Pairs of credentials with the same HMAC: the later one, and the first one. Only a key and its own HMAC reach this
    /// point: the same key twice is an error of the file.
    #[must_use]
    pub fn same_digests(&self) -> Vec<(usize, usize)> {
        let mut firsts = HashMap::with_capacity(self.credentials.len());
        let repeated = |(at, row): (usize, &Row)| {
            let first = *firsts.entry(row.key.digest).or_insert(at);
            (first != at).then_some((at, first))
        };
        self.credentials.iter().enumerate().filter_map(repeated).collect()
    }
}

fn row(id: Uuid, consumer: usize, part: usize, key: KeyFacts) -> Row {
    Row { id, hash: ContentHash::default(), consumer, part, key }
}

/// JSON text. Strings and lists of strings cannot fail to serialize.
fn json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// The uuid5 of the parts with colons between them, as `entity_id` in `aigw/config/entity.py` makes it.
fn entity_id(parts: &[&str]) -> Uuid {
    Uuid::new_v5(&NAMESPACE, parts.join(":").as_bytes())
}
