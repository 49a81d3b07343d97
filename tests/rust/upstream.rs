//! The upstream thread survives any fault: a fault ends the call in work and is counted.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use aigw_io::upstream::{Attempt, Call, Cancel, Deadlines, Event, Failure, Origin, Ticket, Upstream};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

const PATIENCE: Duration = Duration::from_secs(20);

/// A caller that is told of everything and says nothing.
#[derive(Default)]
struct Caller(Cancel);

impl Ticket for Caller {
    fn sending(&self) {}

    fn cancel(&self) -> &Cancel {
        &self.0
    }

    fn head(&self, _: StatusCode, _: &mut HeaderMap<HeaderValue>) {}

    fn piece(&self, piece: Bytes) -> Bytes {
        piece
    }

    fn rest(&self) -> Bytes {
        Bytes::new()
    }

    fn last_words(&self, _: Failure) -> Option<Bytes> {
        None
    }
}

/// A call of a port where nobody listens.
fn refused() -> Call {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let deadlines =
        Deadlines { connect: PATIENCE, write: PATIENCE, first_byte: PATIENCE, between: PATIENCE, total: PATIENCE };
    Call {
        method: Method::GET,
        attempt: Attempt {
            origin: Arc::new(Origin { tls: false, verify: true, host: "127.0.0.1".to_owned(), port }),
            target: "/".to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        },
        others: None,
        deadlines,
        peer: None,
        max_answer: 1,
        whole: false,
    }
}

#[test]
fn a_delivery_and_a_beat_that_panic_cost_themselves_only() {
    let (upstream, inbox) = Upstream::<Caller>::channel();
    let (told, events) = mpsc::channel();
    let (beaten, beats) = mpsc::channel();
    let (failed, missed) = (AtomicBool::new(false), AtomicBool::new(false));
    let deliver = move |batch: Vec<(_, Event)>| {
        let first = !failed.swap(true, Ordering::Relaxed);
        for (_, event) in batch {
            told.send(matches!(event, Event::Failed(Failure::Refused))).unwrap();
        }
        assert!(!first, "the first delivery");
    };
    let beat = move || {
        let first = !missed.swap(true, Ordering::Relaxed);
        let _ = beaten.send(());
        assert!(!first, "the first beat");
    };
    let thread = thread::spawn(move || Upstream::run(inbox, Duration::from_millis(1), deliver, beat));
    for _ in 0..3 {
        assert!(upstream.submit(Caller::default(), refused()).is_ok());
        assert!(events.recv_timeout(PATIENCE).unwrap());
        beats.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(upstream.counters().panics.load(Ordering::Relaxed), 2);
    drop(upstream);
    assert!(thread.join().unwrap().is_ok());
}
