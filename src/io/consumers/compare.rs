//! A file's rows against the rows that the store holds of the file.
//!
//! In: the rows, and the ids of the stored ones with their column `origin`. Out: indexes of the rows that are absent from the store,
//! changed, or only moved to another line, and the ids that left the file. An unchanged row costs one comparison of text.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use aigw_core::snapshot::Uuid;
use base16ct::lower::encode_string;

use super::EntityKind;
use super::rows::{ContentHash, Rows};

/// The differences. Rows are named by index.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Rows that the store does not hold.
    pub absent: Vec<usize>,
    /// Rows with another content.
    pub changed: Vec<usize>,
    /// Rows with the same content in another position.
    pub moved: Vec<usize>,
    /// Ids of stored rows that the file does not hold any more, in the order of the store.
    pub removed: Vec<Uuid>,
}

/// Compares all rows of one kind.
#[must_use]
pub fn compare<O: AsRef<str>>(rows: &Rows, kind: EntityKind, stored: &[(Uuid, O)]) -> Difference {
    let origins: HashMap<Uuid, &str> = stored.iter().map(|(id, origin)| (*id, origin.as_ref())).collect();
    let mut found = Difference::default();
    let mut held = 0;
    for (index, row) in rows.of(kind).iter().enumerate() {
        let Some(&origin) = origins.get(&row.id) else {
            found.absent.push(index);
            continue;
        };
        held += 1;
        if origin != rows.origin(kind, row) {
            if has_hash(origin, &row.hash) { found.moved.push(index) } else { found.changed.push(index) }
        }
    }
    if held < stored.len() {
        let ours: HashSet<Uuid> = rows.of(kind).iter().map(|row| row.id).collect();
        found.removed = stored.iter().map(|(id, _)| *id).filter(|id| !ours.contains(id)).collect();
    }
    found
}

/// Whether an origin has this content hash.
fn has_hash(origin: &str, hash: &ContentHash) -> bool {
    #[derive(serde::Deserialize)]
    struct Stored<'a> {
        #[serde(borrow)]
        hash: Cow<'a, str>,
    }
    serde_json::from_str::<Stored<'_>>(origin).is_ok_and(|stored| stored.hash == encode_string(hash))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::consumers::read::{References, read};
    use crate::consumers::rows::{Declaration, Shape};
    use crate::yaml::load;
    use std::convert::Infallible;
    use std::sync::Arc;

    fn shapes() -> [Shape; 3] {
        let shape = |fields: &[&str]| fields.iter().map(|field| ((*field).to_owned(), "null".to_owned())).collect();
        [
            shape(&["id", "created_at", "updated_at", "username", "custom_id", "tags"]),
            shape(&["id", "created_at", "consumer", "key", "key_hint", "tags", "ttl"]),
            shape(&["id", "created_at", "consumer", "group", "tags"]),
        ]
    }

    fn rows(file: &str, text: &str) -> Rows {
        let consumers = read(&load(text.as_bytes()).unwrap(), &References::default());
        let keys: Vec<_> = (1..9).map(|n| ([n; 32], format!("...{n}"))).collect();
        let tiers = consumers.tiers.iter().map(|name| format!("id of {name}")).collect();
        let declaration = Declaration { file: file.to_owned(), now: 7, tiers, shapes: shapes() };
        Rows::new(Arc::new(consumers), declaration, &keys, |_| Ok::<_, Infallible>(HashMap::new())).unwrap()
    }

    fn stored(rows: &Rows, kind: EntityKind) -> Vec<(Uuid, String)> {
        rows.of(kind).iter().map(|row| (row.id, rows.origin(kind, row))).collect()
    }

    const TEXT: &str =
        "consumers:\n- {username: a, tier: t, keyauth_credentials: [{key: k}], acls: [{group: g}]}\n- {username: b}\n";

    #[test]
    fn compare_separates_moved_rows_from_changed_ones() {
        let before = rows("f\",\"hash\":\".yaml", TEXT);
        let moved = rows("g.yaml", &TEXT.replace("consumers:", "\nconsumers:"));
        let changed = rows("g.yaml", &TEXT.replace("tier: t, ", "tier: u, ").replace("{username: b}", "{username: c}"));
        for kind in [EntityKind::Consumer, EntityKind::Credential, EntityKind::Acl] {
            let held = stored(&before, kind);
            assert_eq!(compare(&before, kind, &held), Difference::default());
            let all = (0..before.of(kind).len()).collect();
            assert_eq!(compare(&moved, kind, &held), Difference { moved: all, ..Difference::default() });
            assert_eq!(compare(&moved, kind, &[] as &[(Uuid, String)]).absent.len(), before.of(kind).len());
        }
        let held = stored(&before, EntityKind::Consumer);
        let found = compare(&changed, EntityKind::Consumer, &held);
        let gone = before.of(EntityKind::Consumer)[1].id;
        assert_eq!(found, Difference { absent: vec![1], changed: vec![0], moved: vec![], removed: vec![gone] });
    }

    #[test]
    fn bodies_follow_the_shape_and_escape_text() {
        let rows = rows("f", "consumers: [{username: 'a \"b\" \\é', tags: [x], keyauth_credentials: [{key: k}]}]");
        let consumer = &rows.of(EntityKind::Consumer)[0];
        let body = rows.body(EntityKind::Consumer, consumer, None);
        let id = consumer.id;
        assert_eq!(
            body,
            format!(
                "{{\"id\":\"{id}\",\"created_at\":7,\"updated_at\":7,\"username\":\"a \\\"b\\\" \\\\é\",\"custom_id\":null,\"tags\":[\"x\"]}}"
            )
        );
        let key = &rows.of(EntityKind::Credential)[0];
        assert!(rows.body(EntityKind::Credential, key, Some(3)).contains("\"created_at\":3,\"consumer\":{\"id\":\""));
        assert!(
            rows.body(EntityKind::Credential, key, None)
                .ends_with("\"key\":null,\"key_hint\":\"...1\",\"tags\":null,\"ttl\":null}")
        );
    }

    #[test]
    fn same_digests_finds_a_key_and_its_hash() {
        let consumers = read(
            &load(
                format!(
                    "consumers: [{{username: a, keyauth_credentials: [{{key: k}}, {{key_hash: {}}}]}}]",
                    "0".repeat(64)
                )
                .as_bytes(),
            )
            .unwrap(),
            &References::default(),
        );
        let declaration = Declaration { file: "f".to_owned(), now: 7, tiers: vec![], shapes: shapes() };
        let keys = [([1; 32], String::new()), ([1; 32], String::new())];
        let rows = Rows::new(Arc::new(consumers), declaration, &keys, |_| Ok::<_, Infallible>(HashMap::new())).unwrap();
        assert_eq!(rows.same_digests(), [(1, 0)]);
    }
}
