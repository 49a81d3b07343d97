//! The upstream thread: it goes on whatever fails in it, and a call that ends there is settled before its waiter hears of it.
#![allow(clippy::unwrap_used)]

mod world;

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use aigw_core::cells::heap::HeapSpace;
use aigw_core::settle::{Outcome, Shutdown};
use aigw_core::surface::{Admitted, EndedCall};
use aigw_core::units::Moment;
use aigw_io::upstream::{Batch, CallObserver, Event, Upstream};
use serde_json::json;
use world::{ANN, NOW, Spec, World, policy};

const PATIENCE: Duration = Duration::from_secs(20);

/// A worker that counts the ends of calls.
#[derive(Default)]
struct Observer(AtomicUsize);

impl CallObserver for Observer {
    type Space = HeapSpace;

    fn shutdown(&self) -> Shutdown {
        Shutdown::default()
    }

    fn now(&self) -> Moment {
        NOW
    }

    fn ended(&self, call: &EndedCall) {
        assert_eq!(call.report().end.outcome, Outcome::UpstreamError);
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A gateway whose service is at a port where nobody listens.
fn world() -> World {
    let mut policy = policy();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    policy["services"][0]["port"] = json!(port);
    World::new(&policy)
}

fn admitted(world: &World) -> Admitted<HeapSpace> {
    world.request(&Spec::route()).map_err(|rejected| rejected.refusal).unwrap()
}

#[test]
fn thread_survives_panics_of_delivery_and_beat() {
    let (upstream, inbox) = Upstream::<Observer, ()>::channel();
    let (told, events) = mpsc::channel();
    let (beaten, beats) = mpsc::channel();
    let (failed, missed) = (AtomicBool::new(false), AtomicBool::new(false));
    let deliver = move |batch: Batch<()>| {
        let first = !failed.swap(true, Ordering::Relaxed);
        for (_, event) in batch {
            told.send(matches!(event, Event::Answer(answer) if answer.status == 502)).unwrap();
        }
        assert!(!first, "the first delivery");
    };
    let beat = move || {
        let first = !missed.swap(true, Ordering::Relaxed);
        let _ = beaten.send(());
        assert!(!first, "the first beat");
    };
    let observer = Arc::new(Observer::default());
    let watcher = Arc::clone(&observer);
    let thread = thread::spawn(move || Upstream::run(inbox, watcher, Duration::from_millis(1), deliver, beat));
    let world = world();
    for ended in 1..=3 {
        assert!(upstream.submit(admitted(&world), Arc::default(), ()).is_ok());
        assert!(events.recv_timeout(PATIENCE).unwrap());
        assert_eq!((observer.0.load(Ordering::SeqCst), world.counts(ANN)), (ended, [0, 0, 0]));
        beats.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(upstream.counters().panics.load(Ordering::Relaxed), 2);
    drop(upstream);
    assert!(thread.join().unwrap().is_ok());
}

#[test]
fn call_without_thread_comes_back_and_gives_back() {
    let (upstream, inbox) = Upstream::<Observer, ()>::channel();
    drop(inbox);
    let world = world();
    let returned = upstream.submit(admitted(&world), Arc::default(), ());
    assert_eq!(world.counts(ANN), [1, 1, 0]);
    drop(returned);
    assert_eq!(world.counts(ANN), [0, 0, 0]);
}
