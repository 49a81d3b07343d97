//! A file's rows against the rows that the store holds of the file.
//!
//! In: the rows, and the ids of the stored ones with their column `origin`. Out: indexes of the rows that are absent from the store,
//! changed, or only moved to another line, and the ids that left the file. An unchanged row costs one comparison of text.

use std::borrow::Cow;
use std::collections::HashMap;

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

/// The comparison of all rows of one kind: the stored rows come one by one, and none is kept.
#[derive(Debug)]
pub struct Comparison<'a> {
    rows: &'a Rows,
    kind: EntityKind,
    /// Row by id, as far as the store has not shown it yet.
    left: HashMap<Uuid, usize>,
    found: Difference,
}

impl<'a> Comparison<'a> {
    /// Begins with no stored row.
    #[must_use]
    pub fn new(rows: &'a Rows, kind: EntityKind) -> Self {
        let left = rows.of(kind).iter().enumerate().map(|(index, row)| (row.id, index)).collect();
        Self { rows, kind, left, found: Difference::default() }
    }

    /// Takes the next stored row: its id, and its column `origin`.
    pub fn take(&mut self, id: Uuid, origin: &str) {
        let Some(index) = self.left.remove(&id) else { return self.found.removed.push(id) };
        let row = &self.rows.of(self.kind)[index];
        if origin != self.rows.origin(self.kind, row) {
            let to = if has_hash(origin, &row.hash) { &mut self.found.moved } else { &mut self.found.changed };
            to.push(index);
        }
    }

    /// The differences, indexes in order.
    #[must_use]
    pub fn finish(self) -> Difference {
        let mut found = self.found;
        found.absent = self.left.into_values().collect();
        for indexes in [&mut found.absent, &mut found.changed, &mut found.moved] {
            indexes.sort_unstable();
        }
        found
    }
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

    fn compare<O: AsRef<str>>(rows: &Rows, kind: EntityKind, stored: &[(Uuid, O)]) -> Difference {
        let mut comparison = Comparison::new(rows, kind);
        for (id, origin) in stored {
            comparison.take(*id, origin.as_ref());
        }
        comparison.finish()
    }

    fn rows(file: &str, text: &str) -> Rows {
        shifted(file, text, 0)
    }

    fn shifted(file: &str, text: &str, shift: i64) -> Rows {
        let consumers = read(&load(text.as_bytes()).unwrap(), &References::default());
        let keys: Vec<_> = (1..9).map(|n| ([n; 32], format!("...{n}").into())).collect();
        let tiers = consumers.tiers.iter().map(|name| format!("id of {name}")).collect();
        let declaration = Declaration { file: file.to_owned(), now: 7, tiers, shapes: shapes(), shift };
        Rows::new(Arc::new(consumers), declaration, keys, |_| Ok::<_, Infallible>(HashMap::new())).unwrap()
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
    fn a_shift_keeps_the_origins_of_rows_that_moved_together() {
        let before = rows("f.yaml", TEXT);
        let moved = shifted("f.yaml", &TEXT.replace("consumers:", "\n\nconsumers:"), 2);
        for kind in [EntityKind::Consumer, EntityKind::Credential, EntityKind::Acl] {
            assert_eq!(compare(&moved, kind, &stored(&before, kind)), Difference::default());
        }
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
        let declaration = Declaration { file: "f".to_owned(), now: 7, tiers: vec![], shapes: shapes(), shift: 0 };
        let keys = vec![([1; 32], "".into()), ([1; 32], "".into())];
        let rows = Rows::new(Arc::new(consumers), declaration, keys, |_| Ok::<_, Infallible>(HashMap::new())).unwrap();
        assert_eq!(rows.same_digests(), [(1, 0)]);
    }
}
