//! The upstream thread: it goes on whatever fails in it, a call that ends there is settled before its waiter hears of it, and
//! the next target of a model is asked after a refusal only.
#![allow(clippy::unwrap_used)]

mod world;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use aigw_core::accept::room::Room;
use aigw_core::balance::{Origin, Reach};
use aigw_core::cells::heap::HeapSpace;
use aigw_core::in_force::InForce;
use aigw_core::request::Answer;
use aigw_core::settle::{Outcome, Shutdown};
use aigw_core::surface::{Admitted, EndedCall};
use aigw_core::units::Moment;
use aigw_io::upstream::{Batch, CallObserver, Event, Notice, Upstream, runtime};
use bytes::Bytes;
use serde_json::json;
use world::{ANN, NOW, Spec, World, policy};

const PATIENCE: Duration = Duration::from_secs(20);

/// A worker that counts the ends of calls. Its disk may take its time.
#[derive(Default)]
struct Observer(AtomicUsize, Option<Arc<tokio::sync::Semaphore>>, Arc<Room>);

impl CallObserver for Observer {
    type Space = HeapSpace;

    fn shutdown(&self) -> Shutdown {
        Shutdown::default()
    }

    fn now(&self) -> Moment {
        NOW
    }

    fn in_force(&self) -> Arc<InForce> {
        Arc::new(InForce::empty())
    }

    fn ended(&self, call: &EndedCall) {
        let end = call.report().end;
        assert_eq!(end.outcome == Outcome::UpstreamError, end.error.is_some());
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    async fn recorded(&self) {
        if let Some(disk) = &self.1 {
            disk.acquire().await.unwrap().forget();
        }
    }

    fn notice(&self, _: Notice) {}

    fn room(&self) -> &Arc<Room> {
        &self.2
    }

    fn uses(&self, _: &Origin) -> bool {
        true
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
    let (upstream, inbox) = Upstream::<Observer, ()>::channel(Reach::default());
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
    let thread = thread::spawn(move || {
        Upstream::run(&runtime().unwrap(), inbox, watcher, Duration::from_millis(1), deliver, beat);
    });
    let world = world();
    for ended in 1..=3 {
        assert!(upstream.submit(Box::new(admitted(&world)), Arc::default(), ()).is_ok());
        assert!(events.recv_timeout(PATIENCE).unwrap());
        assert_eq!((observer.0.load(Ordering::SeqCst), world.counts(ANN)), (ended, [0, 0, 0]));
        beats.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(upstream.counters().panics.load(Ordering::Relaxed), 2);
    drop(upstream);
    thread.join().unwrap();
}

#[test]
fn answer_of_the_workers_own_is_delivered_and_a_panic_cuts_its_client() {
    let (upstream, inbox) = Upstream::<Observer, u8>::channel(Reach::default());
    let (told, events) = mpsc::channel();
    let deliver = move |batch: Batch<u8>| {
        for (waiter, event) in batch {
            let status = if let Event::Answer(answer) = &event { answer.status } else { 0 };
            told.send((*waiter, status, event.is_last())).unwrap();
        }
    };
    let thread = thread::spawn(move || {
        Upstream::run(&runtime().unwrap(), inbox, Arc::default(), Duration::from_millis(5), deliver, || ());
    });
    let answer = Answer { status: 418, headers: Vec::new(), body: Bytes::new(), close: false };
    let broken: Pin<Box<dyn Future<Output = Answer> + Send>> = Box::pin(async { unreachable!("a fault of its work") });
    assert!(upstream.answer(broken, 1));
    assert_eq!(events.recv_timeout(PATIENCE).unwrap(), (1, 0, true));
    assert!(upstream.answer(Box::pin(async { answer }), 2));
    assert_eq!(events.recv_timeout(PATIENCE).unwrap(), (2, 418, true));
    drop(upstream);
    thread.join().unwrap();
}

#[test]
fn call_without_thread_comes_back_and_gives_back() {
    let (upstream, inbox) = Upstream::<Observer, ()>::channel(Reach::default());
    drop(inbox);
    let world = world();
    let returned = upstream.submit(Box::new(admitted(&world)), Arc::default(), ());
    assert_eq!(world.counts(ANN), [1, 1, 0]);
    drop(returned);
    assert_eq!(world.counts(ANN), [0, 0, 0]);
}

/// An upstream that reads a request, answers with these bytes, and closes. Returns its port and the number of requests.
fn upstream(answer: &'static str) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut read = Vec::new();
            while !read.ends_with(b"}") {
                let mut piece = [0; 4096];
                let n = connection.read(&mut piece).unwrap();
                if n == 0 {
                    break;
                }
                read.extend_from_slice(&piece[..n]);
            }
            count.fetch_add(1, Ordering::SeqCst);
            let _ = connection.write_all(answer.as_bytes());
        }
    });
    (port, asked)
}

/// The status of the answer when a model's two targets answer so, how often each was asked, and the counters.
fn status_of(first: &'static str, second: &'static str) -> (u16, [usize; 2], [u32; 3]) {
    let targets = [upstream(first), upstream(second)];
    let mut policy = policy();
    for (n, (port, _)) in targets.iter().enumerate() {
        let target = &mut policy["models"][2]["upstreams"][n];
        (target["port"], target["weight"]) = (json!(port), json!(1 - n));
    }
    let world = World::new(&policy);
    let (handle, inbox) = Upstream::<Observer, ()>::channel(Reach::default());
    let (told, events) = mpsc::channel();
    let deliver = move |batch: Batch<()>| {
        for (_, event) in batch {
            told.send(match event {
                Event::Whole(head, _) => head.status.as_u16(),
                Event::Answer(answer) => answer.status,
                other => unreachable!("{other:?}"),
            })
            .unwrap();
        }
    };
    let thread = thread::spawn(move || {
        Upstream::run(&runtime().unwrap(), inbox, Arc::default(), Duration::from_millis(5), deliver, || ());
    });
    let twin = Spec::chat().with_body(br#"{"model":"twin","messages":[{}]}"#);
    assert!(handle.submit(Box::new(world.request(&twin).ok().unwrap()), Arc::default(), ()).is_ok());
    let status = events.recv_timeout(PATIENCE).unwrap();
    drop(handle);
    thread.join().unwrap();
    (status, targets.map(|(_, asked)| asked.load(Ordering::SeqCst)), world.counts(ANN))
}

/// The events that a client of a tier gets before its entry is on disk, and the status that it gets then.
fn events_around_the_sync(strict: bool) -> (usize, u16) {
    let mut policy = policy();
    policy["models"][2]["upstreams"][0]["port"] = json!(upstream(GOOD).0);
    policy["models"][2]["upstreams"].as_array_mut().unwrap().pop();
    policy["tiers"][0]["strict"] = json!(strict);
    let world = World::new(&policy);
    let (handle, inbox) = Upstream::<Observer, ()>::channel(Reach::default());
    let (told, events) = mpsc::channel();
    let deliver = move |batch: Batch<()>| {
        for (_, event) in batch {
            let Event::Whole(head, _) = event else { unreachable!("{event:?}") };
            told.send(head.status.as_u16()).unwrap();
        }
    };
    let (beaten, beats) = mpsc::channel();
    let beat = move || {
        let _ = beaten.send(());
    };
    let disk = Arc::new(tokio::sync::Semaphore::new(0));
    let observer = Arc::new(Observer(AtomicUsize::new(0), Some(Arc::clone(&disk)), Arc::default()));
    let watcher = Arc::clone(&observer);
    let thread = thread::spawn(move || {
        Upstream::run(&runtime().unwrap(), inbox, watcher, Duration::from_millis(5), deliver, beat);
    });
    let twin = Spec::chat().with_body(br#"{"model":"twin","messages":[{}]}"#);
    assert!(handle.submit(Box::new(world.request(&twin).ok().unwrap()), Arc::default(), ()).is_ok());
    while observer.0.load(Ordering::SeqCst) == 0 {
        beats.recv_timeout(PATIENCE).unwrap();
    }
    // All events of the call's end are delivered between two beats.
    beats.try_iter().count();
    (0..3).for_each(|_| beats.recv_timeout(PATIENCE).unwrap());
    let before: Vec<u16> = events.try_iter().collect();
    disk.add_permits(1);
    let status = before.first().copied().unwrap_or_else(|| events.recv_timeout(PATIENCE).unwrap());
    drop(handle);
    thread.join().unwrap();
    (before.len(), status)
}

#[test]
fn answer_of_a_strict_tier_waits_for_its_entry() {
    assert_eq!(events_around_the_sync(true), (0, 200));
    assert_eq!(events_around_the_sync(false), (1, 200));
}

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
const BUSY: &str = "HTTP/1.1 429 Busy\r\nContent-Length: 4\r\n\r\nbusy";
const KEY: &str = "HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno";
const TORN: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\nhalf";
const MOVED: &str = "HTTP/1.1 307 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n";
const WRONG: &str = "HTTP/1.1 400 Wrong\r\nContent-Length: 5\r\n\r\nwrong";

#[test]
fn next_target_is_asked_after_refusals_only() {
    let (took, gave_back) = ([0, 1, 1], [0, 0, 0]);
    for (first, second, wanted) in [
        (BUSY, GOOD, (200, [1, 1], took)),
        (KEY, GOOD, (200, [1, 1], took)),
        (TORN, GOOD, (200, [1, 1], took)),
        (MOVED, GOOD, (502, [1, 0], gave_back)),
        (WRONG, GOOD, (400, [1, 0], took)),
        ("", GOOD, (502, [1, 0], gave_back)),
        (BUSY, KEY, (429, [1, 1], gave_back)),
        (KEY, BUSY, (429, [1, 1], gave_back)),
        (KEY, MOVED, (502, [1, 1], gave_back)),
        (BUSY, TORN, (429, [1, 1], gave_back)),
        (BUSY, "", (502, [1, 1], gave_back)),
        (BUSY, WRONG, (400, [1, 1], took)),
    ] {
        assert_eq!(status_of(first, second), wanted, "{first:?} then {second:?}");
    }
}
