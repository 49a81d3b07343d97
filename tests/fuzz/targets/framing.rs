//! Answers of upstreams: any bytes on a connection become one whole answer, a cut one or a failure, and never a part of the
//! answer to the next call.
//!
//! Input: one byte (odd: the upstream closes after its bytes; even: it keeps the connection open and answers a second request),
//! then the bytes that it answers the first request with. A second call follows at once: it may fail, but when it has an answer
//! that is the upstream's second one. The client is the product's own, on sockets of the loopback network; each input has an
//! address of its own, so that neither connections nor health are shared.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use aigw_core::accept::room::Room;
use aigw_core::balance::{Origin, Reach};
use aigw_core::cells::heap::HeapSpace;
use aigw_core::in_force::InForce;
use aigw_core::settle;
use aigw_core::surface::EndedCall;
use aigw_core::units::Moment;
use aigw_io::upstream::{Batch, CallObserver, Event, Notice, Upstream, runtime};
use http::{Method, StatusCode};
use serde_json::json;

#[path = "../../rust/world/mod.rs"]
mod world;
use world::{NOW, Spec, World};

const SECOND: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond";
/// A bound on an upstream that says nothing more.
const SILENCE_MS: u64 = 40;
const PATIENCE: Duration = Duration::from_secs(20);

/// A worker without counters and log.
#[derive(Default)]
struct Observer(Arc<Room>);

impl CallObserver for Observer {
    type Space = HeapSpace;

    fn shutdown(&self) -> settle::Shutdown {
        settle::Shutdown::default()
    }

    fn now(&self) -> Moment {
        NOW
    }

    fn in_force(&self) -> Arc<InForce> {
        Arc::new(InForce::empty())
    }

    fn ended(&self, _: &EndedCall) {}

    async fn recorded(&self) {}

    fn notice(&self, _: Notice) {}

    fn room(&self) -> &Arc<Room> {
        &self.0
    }

    fn uses(&self, _: &Origin) -> bool {
        true
    }
}

/// The client's thread and the upstream's, for all inputs.
struct Ends {
    upstream: Upstream<Observer, ()>,
    events: mpsc::Receiver<Event>,
    port: u16,
    /// How the upstream answers its next first request.
    script: Arc<Mutex<(bool, Vec<u8>)>>,
}

fn ends() -> &'static Mutex<Ends> {
    static ENDS: OnceLock<Mutex<Ends>> = OnceLock::new();
    ENDS.get_or_init(|| {
        let (upstream, inbox) = Upstream::<Observer, ()>::channel(Reach::default());
        let (told, events) = mpsc::channel();
        let deliver = move |batch: Batch<()>| batch.into_iter().for_each(|(_, event)| drop(told.send(event)));
        thread::spawn(move || {
            Upstream::run(&runtime().unwrap(), inbox, Arc::new(Observer::default()), PATIENCE, deliver, || ());
        });
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = Arc::new(Mutex::new((false, Vec::new())));
        let shared = Arc::clone(&script);
        thread::spawn(move || {
            let answered = Arc::new(Mutex::new(Vec::new()));
            for connection in listener.incoming().flatten() {
                let (script, answered) = (Arc::clone(&shared), Arc::clone(&answered));
                thread::spawn(move || serve(connection, &script, &answered));
            }
        });
        Mutex::new(Ends { upstream, events, port, script })
    })
}

/// Answers the first request of an address by the script, every later one with [`SECOND`].
fn serve(mut connection: TcpStream, script: &Mutex<(bool, Vec<u8>)>, answered: &Mutex<Vec<std::net::IpAddr>>) {
    let address = connection.local_addr().unwrap().ip();
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = connection.read(&mut piece) {
        request.extend_from_slice(&piece[..count]);
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        request.clear();
        let mut answered = answered.lock().unwrap_or_else(PoisonError::into_inner);
        if answered.contains(&address) {
            drop(answered);
            let _ = connection.write_all(SECOND);
            continue;
        }
        answered.clear();
        answered.push(address);
        drop(answered);
        let (close, bytes) = script.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let _ = connection.write_all(&bytes);
        if close {
            let _ = connection.shutdown(Shutdown::Write);
        }
    }
}

/// A gateway whose service is the upstream of one input: two requests are within its limits.
fn gateway(ends: &Ends, host: &str) -> World {
    let mut policy = world::policy();
    policy["services"][0]["host"] = json!(host);
    policy["services"][0]["port"] = json!(ends.port);
    policy["services"][0]["read_timeout_ms"] = json!(SILENCE_MS);
    World::new(&policy)
}

/// One call; its events in order.
fn call(ends: &Ends, gateway: &World) -> Vec<Event> {
    let get = Spec { method: Method::GET, ..Spec::route().with_body(b"") };
    let get = Spec { length: aigw_core::request::BodyLength::None, ..get };
    let admitted = gateway.request(&get).map_err(|rejected| rejected.refusal).expect("a request that passes");
    assert!(ends.upstream.submit(Box::new(admitted), Arc::default(), ()).is_ok());
    let mut events = Vec::new();
    while !events.last().is_some_and(Event::is_last) {
        events.push(ends.events.recv_timeout(PATIENCE).expect("a call without an end"));
    }
    events
}

/// Whether the events are in an order that a client can be told: a whole answer, or a head, pieces and an end, or a failure.
fn in_order(events: &[Event]) -> bool {
    match events {
        [Event::Whole(..) | Event::Answer(_)] => true,
        [Event::Head(_), pieces @ .., Event::End | Event::Cut(..)] => {
            pieces.iter().all(|piece| matches!(piece, Event::Chunk(_)))
        }
        _ => false,
    }
}

/// Status and body of an answer that came whole.
fn answer(events: &[Event]) -> Option<(StatusCode, Vec<u8>)> {
    match events {
        [Event::Whole(head, body)] => Some((head.status, body.to_vec())),
        [Event::Head(head), pieces @ .., Event::End] => {
            let body = pieces.iter().flat_map(|piece| if let Event::Chunk(bytes) = piece { &bytes[..] } else { &[] });
            Some((head.status, body.copied().collect()))
        }
        _ => None,
    }
}

/// Runs one input.
pub fn run(data: &[u8]) {
    static INPUTS: AtomicU32 = AtomicU32::new(1);
    let Some((&first, bytes)) = data.split_first() else { return };
    let ends = ends().lock().unwrap_or_else(PoisonError::into_inner);
    *ends.script.lock().unwrap_or_else(PoisonError::into_inner) = (first % 2 == 1, bytes.to_vec());
    let [_, a, b, c] = INPUTS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let host = format!("127.{a}.{b}.{c}");
    let gateway = gateway(&ends, &host);
    let events = call(&ends, &gateway);
    assert!(in_order(&events), "{events:?}");
    for event in &events {
        if let Event::Whole(head, _) | Event::Head(head) = event {
            let headers = &head.headers;
            assert!(!headers.contains_key("transfer-encoding") && !headers.contains_key("connection"), "{headers:?}");
        }
    }
    if let Some((_, body)) = answer(&events) {
        assert!(body.len() <= bytes.len(), "more body than bytes");
    }
    let second = call(&ends, &gateway);
    assert!(in_order(&second), "{second:?}");
    if let Some(got) = answer(&second) {
        assert_eq!(got, (StatusCode::OK, b"second".to_vec()), "bytes of the first answer reached the second call");
    }
}
