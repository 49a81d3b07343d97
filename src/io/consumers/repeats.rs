//! Names, keys and groups that occur twice among a file's consumers.
//!
//! In: the consumers of a file. Out: each repetition with both indexes. A key and its own HMAC count as different here:
//! only the secret of the data folder shows that they are the same (`Rows::same_digests`).

use std::collections::HashMap;
use std::hash::Hash;

use super::{FileConsumers, Key};

/// The field that occurs twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// A username.
    Username,
    /// A custom id.
    CustomId,
    /// A key.
    Key,
    /// The HMAC of a key.
    KeyHash,
    /// A group of one consumer's acls.
    Group,
}

impl Field {
    /// Its name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Username => "username",
            Self::CustomId => "custom_id",
            Self::Key => "key",
            Self::KeyHash => "key_hash",
            Self::Group => "group",
        }
    }
}

/// A consumer's index in the file's list, and the index of its credential or acl (0 for its own fields).
pub type Position = (usize, usize);

/// One repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeat {
    /// The field that occurs twice.
    pub field: Field,
    /// The later occurrence.
    pub at: Position,
    /// The first one.
    pub first: Position,
}

/// Every repetition, at most `most`, by field and then in the order of the file.
#[must_use]
pub fn repeats(file: &FileConsumers, most: usize) -> Vec<Repeat> {
    let mut found = Vec::new();
    let mut usernames: Vec<(&str, Position)> = file
        .consumers
        .iter()
        .filter_map(|one| Some((one.username.as_deref()?, (one.index, 0))))
        .chain(file.invalid.iter().filter_map(|one| Some((one.username.as_deref()?, (one.index, 0)))))
        .collect();
    usernames.sort_unstable_by_key(|(_, at)| *at);
    note(&mut found, most, Field::Username, usernames);
    let custom_ids = file.consumers.iter().filter_map(|one| Some((one.custom_id.as_deref()?, (one.index, 0))));
    note(&mut found, most, Field::CustomId, custom_ids);
    let keys = || {
        let all = file.consumers.iter();
        all.flat_map(|one| one.credentials.iter().enumerate().map(|(n, key)| (&key.key, (one.index, n))))
    };
    note(
        &mut found,
        most,
        Field::Key,
        keys().filter_map(|(key, at)| if let Key::Text(text) = key { Some((text, at)) } else { None }),
    );
    note(
        &mut found,
        most,
        Field::KeyHash,
        keys().filter_map(|(key, at)| if let Key::Hmac(hmac) = key { Some((hmac, at)) } else { None }),
    );
    for one in file.consumers.iter().filter(|one| one.acls.len() > 1) {
        let groups = one.acls.iter().enumerate().map(|(n, acl)| (&*acl.group, (one.index, n)));
        note(&mut found, most, Field::Group, groups);
    }
    found
}

fn note<T: Hash + Eq>(
    found: &mut Vec<Repeat>,
    most: usize,
    field: Field,
    values: impl IntoIterator<Item = (T, Position)>,
) {
    let mut firsts = HashMap::new();
    for (value, at) in values {
        let first = *firsts.entry(value).or_insert(at);
        if first != at && found.len() < most {
            found.push(Repeat { field, at, first });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::consumers::read::{References, read};
    use crate::yaml::load;

    #[test]
    fn repeats_are_found_by_field_with_both_indexes() {
        let hash = "0".repeat(64);
        let text = format!(
            "consumers:\n- {{username: a, custom_id: c, keyauth_credentials: [{{key: k}}, {{key_hash: {hash}}}]}}\n\
             - {{username: a, wrong: 1}}\n- {{custom_id: c, acls: [{{group: g}}, {{group: h}}, {{group: g}}]}}\n\
             - {{username: b, keyauth_credentials: [{{key_hash: {hash}}}, {{key: k}}]}}\n"
        );
        let file = read(&load(text.as_bytes()).unwrap(), &References::default());
        let found: Vec<_> = repeats(&file, 9).iter().map(|one| (one.field.name(), one.at, one.first)).collect();
        let wanted = [
            ("username", (1, 0), (0, 0)),
            ("custom_id", (2, 0), (0, 0)),
            ("key", (3, 1), (0, 0)),
            ("key_hash", (3, 0), (0, 1)),
            ("group", (2, 2), (2, 0)),
        ];
        assert_eq!(found, wanted);
        assert_eq!(repeats(&file, 2).len(), 2);
    }
}
