//! The key tables against a plain map, whatever order changes come in; their size; damaged files.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use aigw_core::identify::KeyHasher;
use aigw_core::snapshot::delta::{self, Change};
use aigw_core::snapshot::{Credential, Digest, Keys, KeysBuilder, NewConsumer, Ref, SnapshotError, Uuid};
use proptest::prelude::*;

/// One for all cases: keys that it remembers from other cases must not matter.
static HASHER: LazyLock<KeyHasher> = LazyLock::new(|| KeyHasher::new(&[7; 32]));

fn digest(key: u32) -> Digest {
    HASHER.digest(&key.to_le_bytes())
}

fn id(n: u32) -> Uuid {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    Uuid::from_bytes(bytes)
}

#[derive(Debug, Clone)]
enum Op {
    Consumer { n: u32, name: Option<String>, refs: Vec<(u32, u32, u32)> },
    Credential { n: u32, consumer: u32, key: u32, expires_at: u64 },
    ConsumerGone(u32),
    CredentialGone(u32),
}

/// A consumer's name and the plugin instances on it.
type NameAndRefs = (Option<String>, Vec<(u32, u32, u32)>);

/// A simple model of the tables.
#[derive(Debug, Clone, Default)]
struct Model {
    consumers: BTreeMap<u32, NameAndRefs>,
    credentials: BTreeMap<u32, (u32, u32, u64)>,
}

impl Model {
    /// False when the store could not hold this: a key belongs to one credential at a time.
    fn apply(&mut self, op: &Op) -> bool {
        match op {
            Op::Consumer { n, name, refs } => {
                self.consumers.insert(*n, (name.clone(), refs.clone()));
            }
            Op::Credential { n, consumer, key, expires_at } => {
                if self.credentials.iter().any(|(other, c)| other != n && c.1 == *key) {
                    return false;
                }
                self.credentials.insert(*n, (*consumer, *key, *expires_at));
            }
            Op::ConsumerGone(n) => {
                self.consumers.remove(n);
            }
            Op::CredentialGone(n) => {
                self.credentials.remove(n);
            }
        }
        true
    }

    fn find(&self, key: u32) -> Option<(u32, u32, u64, Option<String>)> {
        let (n, (consumer, _, expires_at)) = self.credentials.iter().find(|(_, c)| c.1 == key)?;
        let (name, _) = self.consumers.get(consumer)?;
        Some((*n, *consumer, *expires_at, name.clone()))
    }

    fn base(&self) -> Keys {
        let mut builder = KeysBuilder::new();
        for (n, (name, refs)) in self.consumers.iter().rev() {
            builder.consumer(&new_consumer(*n, name.as_deref(), &to_refs(refs))).unwrap();
        }
        for (n, (consumer, key, expires_at)) in &self.credentials {
            if self.consumers.contains_key(consumer) {
                let credential = Credential { n: *n, id: id(*n), consumer: *consumer, expires_at: *expires_at };
                builder.credential(credential, digest(*key));
            }
        }
        Keys::open(Arc::new(builder.finish(1).unwrap())).unwrap()
    }
}

fn to_refs(refs: &[(u32, u32, u32)]) -> Vec<Ref> {
    refs.iter().map(|&(route, service, profile)| Ref { route, service, kind: 0, profile }).collect()
}

fn new_consumer<'a>(n: u32, username: Option<&'a str>, refs: &'a [Ref]) -> NewConsumer<'a> {
    let groups: &[&str] = if refs.is_empty() { &[] } else { &["gold", ""] };
    NewConsumer {
        n,
        id: id(n),
        username,
        custom_id: username.filter(|u| u.len() > 3),
        refs,
        tier: refs.len().try_into().unwrap(),
        groups,
    }
}

fn encode(op: &Op, out: &mut Vec<u8>) {
    match op {
        Op::Consumer { n, name, refs } => {
            delta::encode(&Change::Consumer(new_consumer(*n, name.as_deref(), &to_refs(refs))), out)
        }
        Op::Credential { n, consumer, key, expires_at } => {
            let credential = Credential { n: *n, id: id(*n), consumer: *consumer, expires_at: *expires_at };
            delta::encode(&Change::Credential(credential, digest(*key)), out)
        }
        Op::ConsumerGone(n) => delta::encode(&Change::ConsumerGone(*n), out),
        Op::CredentialGone(n) => delta::encode(&Change::CredentialGone(*n), out),
    }
    .unwrap();
}

fn op() -> impl Strategy<Value = Op> {
    let refs = prop::collection::vec((0_u32..3, 0_u32..3, 0_u32..9), 0..3);
    prop_oneof![
        3 => (1_u32..9, prop::option::of("[a-zé]{0,6}"), refs).prop_map(|(n, name, refs)| Op::Consumer { n, name, refs }),
        4 => (1_u32..9, 1_u32..9, 0_u32..9, 0_u64..3)
            .prop_map(|(n, consumer, key, expires_at)| Op::Credential { n, consumer, key, expires_at }),
        1 => (1_u32..9).prop_map(Op::ConsumerGone),
        2 => (1_u32..9).prop_map(Op::CredentialGone),
    ]
}

fn check(keys: &Keys, model: &Model) -> Result<(), TestCaseError> {
    for key in 0..9 {
        let found = keys.find(&digest(key)).map(|(credential, consumer)| {
            let names = keys.names(consumer.n).unwrap();
            assert_eq!((credential.id, names.id), (id(credential.n), id(consumer.n)));
            assert_eq!(credential.consumer, consumer.n);
            (credential.n, consumer.n, credential.expires_at, names.username.map(str::to_owned))
        });
        let wanted = model.find(key);
        // By its digest, and then as one that was seen a moment ago.
        for _ in 0..2 {
            let caller = HASHER.caller(keys, &key.to_le_bytes(), 0);
            let seen = caller.map(|caller| {
                let (consumer, names) = (caller.consumer.unwrap(), caller.names().unwrap().unwrap());
                let credential = caller.credential().unwrap().unwrap();
                assert_eq!(keys.consumer(consumer.n), Some(consumer));
                assert_eq!((credential.id, names.id), (id(credential.n), id(consumer.n)));
                (credential.n, consumer.n, credential.expires_at, names.username.map(str::to_owned))
            });
            prop_assert_eq!(&seen, &wanted, "key {}", key);
        }
        prop_assert_eq!(found, wanted, "key {}", key);
    }
    for n in 0..10 {
        let found = keys
            .consumer(n)
            .map(|c| (keys.names(n).unwrap().username.map(str::to_owned), c.refs.iter().collect::<Vec<_>>()));
        prop_assert_eq!(
            found,
            model.consumers.get(&n).map(|(name, refs)| (name.clone(), to_refs(refs))),
            "consumer {}",
            n
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn base_and_delta_answer_like_a_map(
        before in prop::collection::vec(op(), 0..25),
        steps in prop::collection::vec(prop::collection::vec(op(), 0..6), 0..8),
    ) {
        let mut model = Model::default();
        for op in &before {
            model.apply(op);
        }
        // A credential without a consumer is in no base; its number must stay unknown there.
        model.credentials.retain(|_, c| model.consumers.contains_key(&c.0));
        let mut keys = model.base();
        check(&keys, &model)?;
        for (step, ops) in steps.iter().enumerate() {
            let mut bytes = if step == 0 { delta::header(1).to_vec() } else { Vec::new() };
            let old = (keys.clone(), model.clone());
            for op in ops {
                if model.apply(op) {
                    encode(op, &mut bytes);
                }
            }
            keys.apply(&bytes).unwrap();
            check(&keys, &model)?;
            // Later changes do not touch the previous snapshot.
            check(&old.0, &old.1)?;
        }
    }

    #[test]
    fn damaged_bytes_never_panic(at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<prop::sample::Index>()) {
        let mut builder = KeysBuilder::new();
        for n in 1..20 {
            builder.consumer(&new_consumer(n, Some("someone"), &[Ref { route: 1, service: 0, kind: 0, profile: 0 }])).unwrap();
            builder.credential(Credential { n, id: id(n), consumer: n, expires_at: 0 }, digest(n));
        }
        let mut base = builder.finish(1).unwrap();
        let at = at.index(base.len());
        base[at] ^= 1 << bit;
        if let Ok(keys) = Keys::open(Arc::new(base.clone())) {
            for key in 0..25 {
                if let Some((_, consumer)) = keys.find(&digest(key)) {
                    let _ = consumer.refs.iter().count();
                }
                let _ = keys.consumer(key);
            }
        }
        base[at] ^= 1 << bit;
        base.truncate(cut.index(base.len()));
        prop_assert!(Keys::open(Arc::new(base)).is_err());
    }

    #[test]
    fn a_delta_is_whole_or_refused(ops in prop::collection::vec(op(), 1..6), cut in any::<prop::sample::Index>()) {
        let mut file = delta::header(1).to_vec();
        let mut ends = vec![file.len()];
        for op in &ops {
            encode(op, &mut file);
            ends.push(file.len());
        }
        prop_assert_eq!(delta::count(&file, 1).unwrap(), ops.len());
        prop_assert!(delta::count(&file, 2).is_err());
        let cut = cut.index(file.len());
        let mut keys = Model::default().base();
        prop_assert_eq!(keys.apply(&file[..cut]).is_ok(), ends.contains(&cut));
    }
}

#[test]
fn a_base_refuses_records_it_could_not_find() {
    let consumer = |n| new_consumer(n, Some("a"), &[]);
    let credential = |n, consumer| Credential { n, id: id(n), consumer, expires_at: 0 };
    let build = |consumers: &[u32], credentials: &[(u32, u32, u32)]| {
        let mut builder = KeysBuilder::new();
        for n in consumers {
            builder.consumer(&consumer(*n)).unwrap();
        }
        for (n, owner, key) in credentials {
            builder.credential(credential(*n, *owner), digest(*key));
        }
        builder.finish(1).map(|_| ())
    };
    assert!(build(&[1, 2], &[(1, 1, 1), (2, 1, 2)]).is_ok());
    for (consumers, credentials) in [
        (vec![1, 1], vec![]),
        (vec![1], vec![(1, 2, 1)]),
        (vec![1], vec![(1, 1, 1), (1, 1, 2)]),
        (vec![1], vec![(1, 1, 1), (2, 1, 1)]),
    ] {
        assert!(matches!(build(&consumers, &credentials), Err(SnapshotError::Record { .. })), "{credentials:?}");
    }
    let long = "x".repeat(65_535);
    assert!(KeysBuilder::new().consumer(&new_consumer(1, Some(&long), &[])).is_err());
    assert!(KeysBuilder::new().consumer(&new_consumer(0, None, &[])).is_err());
}

#[test]
fn a_consumer_with_one_key_costs_at_most_200_bytes() {
    let mut builder = KeysBuilder::new();
    let count = 10_000;
    for n in 1..=count {
        let name = format!("consumer-{n:08}");
        let refs = [Ref { route: 0, service: 0, kind: 0, profile: 1 }];
        builder
            .consumer(&NewConsumer {
                n,
                id: id(n),
                username: Some(&name),
                custom_id: Some(&name),
                refs: &refs,
                tier: 0,
                groups: &[],
            })
            .unwrap();
        builder.credential(Credential { n, id: id(n), consumer: n, expires_at: 0 }, digest(n));
    }
    let bytes = builder.finish(1).unwrap().len();
    assert!(bytes <= count as usize * 200, "{} bytes each", bytes / count as usize);
    println!("{} bytes per consumer with one key, two names and one plugin", bytes / count as usize);
}
