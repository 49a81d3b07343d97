//! Passive health: out after three failures to connect in a row, one probe at a time, back at the first success.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aigw_core::balance::health::{Health, OUT};
use proptest::prelude::*;

fn fail(health: &Arc<Health>, times: usize, now: Duration) {
    for _ in 0..times {
        health.attempt(now).unwrap().failed(now);
    }
}

const T: Duration = Duration::from_secs(100);
/// As long as an address is out at least.
const JUST_OUT: Duration = Duration::from_millis(9_999);

#[test]
fn three_failures_in_a_row_take_address_out_for_ten_seconds() {
    let health = Arc::new(Health::default());
    fail(&health, 2, T);
    health.attempt(T).unwrap().succeeded();
    assert!(health.is_well());
    fail(&health, 3, T);
    assert!(!health.is_well());
    assert_eq!(health.attempt(T + Duration::from_secs(4)).err().unwrap().retry_in, Duration::from_secs(6));
    assert!(health.attempt(T + JUST_OUT).is_err());
    assert!(health.attempt(T + OUT).is_ok());
}

#[test]
fn one_probe_at_a_time_and_its_outcome_decides() {
    let health = Arc::new(Health::default());
    fail(&health, 3, T);
    let now = T + OUT;
    let probe = health.attempt(now).unwrap();
    assert!(health.attempt(now).is_err());
    probe.failed(now);
    assert!(health.attempt(now + JUST_OUT).is_err());
    drop(health.attempt(now + OUT).unwrap());
    health.attempt(now + OUT).unwrap().succeeded();
    assert!(health.is_well());
    fail(&health, 2, now);
    assert!(health.attempt(now).is_ok());
}

#[test]
fn calls_under_way_do_not_lengthen_the_pause() {
    let health = Arc::new(Health::default());
    let early = health.attempt(T).unwrap();
    fail(&health, 3, T);
    early.failed(T + Duration::from_secs(9));
    assert!(health.attempt(T + OUT).is_ok());
}

#[test]
fn of_many_threads_one_probes() {
    let health = Arc::new(Health::default());
    fail(&health, 3, T);
    let probes = AtomicUsize::new(0);
    let attempts: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| health.attempt(T + OUT).ok())).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    });
    probes.fetch_add(attempts.len(), Ordering::Relaxed);
    assert_eq!(probes.into_inner(), 1);
}

proptest! {
    #[test]
    fn never_asked_while_out_and_always_asked_again(
        steps in prop::collection::vec((any::<bool>(), 0..6_000_u64), 1..200),
    ) {
        let health = Arc::new(Health::default());
        let (mut now, mut failures, mut until) = (T, 0, Duration::ZERO);
        for (connects, passed) in steps {
            now += Duration::from_millis(passed);
            let attempt = health.attempt(now);
            prop_assert_eq!(attempt.is_ok(), failures < 3 || now >= until);
            match attempt {
                Ok(attempt) if connects => {
                    attempt.succeeded();
                    failures = 0;
                }
                Ok(attempt) => {
                    attempt.failed(now);
                    failures += 1;
                    until = now + OUT;
                }
                Err(out) => prop_assert_eq!(now + out.retry_in, until),
            }
        }
    }
}
