//! Where a caller stands, over heap counters: amounts held by calls in flight are shown apart, unused counters as unused.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use aigw_core::admit::{Admitter, Check};
use aigw_core::cells::heap::HeapSpace;
use aigw_core::cells::{CellKey, CounterSpace};
use aigw_core::limits::{Demand, Limit, Usage};
use aigw_core::standing::{self, Counter, Standing};
use aigw_core::units::{Moment, RequestId, UnixSeconds};
use serde_json::json;

const NOW: UnixSeconds = UnixSeconds(1_700_000_000);

fn limits() -> [Limit; 2] {
    let window = Limit::build("window", &json!({"requests": 5, "per": "minute"})).unwrap();
    [window, Limit::build("bucket", &json!({"requests": 5, "per": "second", "burst": 10})).unwrap()]
}

fn read(space: &HeapSpace, now: Moment) -> [Standing<'static>; 2] {
    let [window, bucket] = limits();
    let counters = vec![Counter::new(window, 1, 2), Counter::new(bucket, 2, 2)];
    standing::read(space, &[space.ring().words()], counters, now).try_into().unwrap()
}

#[test]
fn standing_shows_calls_in_flight_apart() {
    let space = Arc::new(HeapSpace::new(&[(1, 4), (2, 4)], 8).unwrap());
    let admitter = Admitter::new(Arc::clone(&space));
    let [window, bucket] = limits();
    let mut checks =
        [(1, window), (2, bucket)].map(|(column, limit)| Check::new(limit, CellKey::Dense { column, row: 2 }));
    let mut take = || admitter.take(&mut checks, &Demand::default(), NOW, RequestId([1, 2])).unwrap();
    take().settle(&Usage::ANSWERED);
    let held = [take(), take()];
    let [window, bucket] = read(&space, NOW.into());
    assert_eq!((window.meter, window.per.as_deref(), window.mode), ("requests", Some("minute"), "enforce"));
    assert_eq!((window.limit, window.used, window.reserved, window.remaining), (5, 1, 2, 2));
    assert_eq!(window.resets_at, Some(1_700_000_040));
    // A bucket refills by itself: its amounts in flight are not shown apart.
    assert_eq!((bucket.limit, bucket.used, bucket.reserved, bucket.remaining), (10, 3, 0, 7));
    assert_eq!(bucket.resets_at, Some(1_700_000_001));
    drop(held);
    let [window, _] = read(&space, UnixSeconds(1_700_000_039).into());
    assert_eq!(window.used, 1);
    let [window, _] = read(&space, UnixSeconds(1_700_000_040).into());
    assert_eq!((window.used, window.resets_at), (0, Some(1_700_000_100)), "its window is over at its end");
    let later = Moment((u64::from(NOW.0) + 60) * 1_000_000_000);
    let [window, bucket] = read(&space, later);
    assert_eq!((window.used, window.reserved, window.remaining, window.resets_at), (0, 0, 5, Some(1_700_000_100)));
    assert_eq!((bucket.used, bucket.remaining, bucket.resets_at), (0, 10, Some(1_700_000_060)));
}

#[test]
fn standing_of_a_full_bucket_resets_now() {
    let space = HeapSpace::new(&[(1, 4), (2, 4)], 8).unwrap();
    let [_, bucket] = read(&space, Moment(u64::from(NOW.0) * 1_000_000_000 + 500_000_000));
    assert_eq!((bucket.used, bucket.resets_at), (0, Some(1_700_000_000)));
}

#[test]
fn standing_counts_a_call_of_the_window_before_no_more() {
    let space = Arc::new(HeapSpace::new(&[(1, 4)], 8).unwrap());
    let admitter = Admitter::new(Arc::clone(&space));
    let mut checks = [Check::new(limits()[0], CellKey::Dense { column: 1, row: 2 })];
    let mut take = |now| admitter.take(&mut checks, &Demand::default(), now, RequestId([1, 2])).unwrap();
    let (held, next) = (take(NOW), UnixSeconds(1_700_000_040));
    take(next).settle(&Usage::ANSWERED);
    let [window, _] = read(&space, next.into());
    assert_eq!((window.used, window.reserved), (1, 0));
    drop(held);
    assert_eq!(read(&space, next.into())[0].used, 1);
}

#[test]
fn standing_of_a_counter_without_a_file_is_unused() {
    let space = HeapSpace::new(&[], 8).unwrap();
    let [window, bucket] = read(&space, NOW.into());
    assert_eq!((window.used, window.resets_at), (0, Some(1_700_000_040)));
    assert_eq!((bucket.used, bucket.resets_at), (0, Some(1_700_000_000)));
}

#[test]
fn standing_prints_the_row_that_clients_read() {
    let space = HeapSpace::new(&[(1, 4)], 8).unwrap();
    let counters = vec![Counter::new(limits()[0], 1, 2)];
    let rows = standing::read(&space, &[], counters, NOW.into());
    let page: serde_json::Value = serde_json::from_slice(&standing::page("free", &rows)).unwrap();
    assert_eq!(
        page,
        json!({"object": "list", "tier": "free", "data": [{"meter": "requests", "per": "minute", "scope": "",
               "model": null, "credential": null, "service": null, "mode": "enforce", "limit": 5, "used": 0,
               "reserved": 0, "remaining": 5, "resets_at": 1_700_000_040,
               "source": ""}]})
    );
}
