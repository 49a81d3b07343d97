//! Every fuzz target over its committed corpus: the seeds, and each input that ever failed. `make fuzz` searches for more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../fuzz/targets/body.rs"]
mod body;
#[path = "../fuzz/targets/framing.rs"]
mod framing;
#[path = "../fuzz/targets/keys.rs"]
mod keys;
#[path = "../fuzz/targets/policy.rs"]
mod policy;
#[path = "../fuzz/targets/sse.rs"]
mod sse;

use std::fs;
use std::path::Path;

fn every_input(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(folder).unwrap() {
        run(&fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs > 2, "{target}: {inputs} inputs");
}

#[test]
fn body_holds_on_its_corpus() {
    every_input("body", body::run);
}

#[test]
fn framing_holds_on_its_corpus() {
    every_input("framing", framing::run);
}

#[test]
fn keys_hold_on_their_corpus() {
    every_input("keys", keys::run);
}

#[test]
fn policy_holds_on_its_corpus() {
    every_input("policy", policy::run);
}

#[test]
fn sse_holds_on_its_corpus() {
    every_input("sse", sse::run);
}
