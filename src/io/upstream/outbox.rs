//! The outbox of one call: its events on their way to the waiter, all calls' events in one batch.
//!
//! In: the steps of an answer, in order. The core's [`Call`] sees each step first: it edits heads and pieces, and is settled by
//! the last. Out: batches of (waiter, event). Invariant: nothing follows a call's last event.

use aigw_core::request::ClientConnection;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aigw_core::accept::room::Holder;
use aigw_core::forward::Attempt;
use aigw_core::request::Answer;
use aigw_core::settle::Failure;
use aigw_core::surface::{Call, FailedCall, Judged};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::event::{AnswerHead, Event};
use super::observer::CallObserver;
use super::pace::Pace;
use crate::socket::Unread;

/// The longest wait for the entry of a strict tier's call: a sync takes milliseconds.
const STRICT: Duration = Duration::from_secs(30);

/// Events that are ready together: waiter and event, in order for each waiter.
pub type Batch<T> = Vec<(Rc<T>, Event)>;

/// The events of all calls that wait to be delivered, and the observer of all calls.
pub(super) struct Ready<O, T> {
    observer: Arc<O>,
    batch: RefCell<Batch<T>>,
    bell: Notify,
    rung: Cell<bool>,
}

impl<O, T> Ready<O, T> {
    pub(super) fn new(observer: Arc<O>) -> Self {
        Self { observer, batch: RefCell::default(), bell: Notify::new(), rung: Cell::new(false) }
    }

    /// Waits for events, and takes them all.
    pub(super) async fn next(&self) -> Batch<T> {
        self.bell.notified().await;
        self.rung.set(false);
        self.batch.take()
    }

    fn add(&self, waiter: &Rc<T>, event: Event) {
        self.batch.borrow_mut().push((Rc::clone(waiter), event));
        if !self.rung.replace(true) {
            self.bell.notify_one();
        }
    }
}

/// An answer of the worker's own that a waiter waits for. Dropped without one (a panic), it cuts the client's connection.
pub(super) struct Promise<O, T> {
    ready: Rc<Ready<O, T>>,
    waiter: Option<Rc<T>>,
}

impl<O, T> Promise<O, T> {
    pub(super) fn new(ready: Rc<Ready<O, T>>, waiter: T) -> Self {
        Self { ready, waiter: Some(Rc::new(waiter)) }
    }

    /// The answer is here.
    pub(super) fn keep(mut self, answer: Answer) {
        if let Some(waiter) = self.waiter.take() {
            self.ready.add(&waiter, Event::Answer(answer));
        }
    }
}

impl<O, T> Drop for Promise<O, T> {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            self.ready.add(&waiter, Event::Cut(None, Unread::Sent));
        }
    }
}

/// The events of one call.
pub(super) struct Outbox<O: CallObserver, T: 'static> {
    ready: Rc<Ready<O, T>>,
    waiter: Rc<T>,
    /// `None` once the call is settled.
    call: RefCell<Option<Call<O::Space>>>,
    over: Cell<bool>,
    /// The call's tier waits for the entry.
    strict: bool,
    /// Bytes of the answer's body handed over; `None` before its head was.
    sent: Cell<Option<u64>>,
    /// The client reads its answer more slowly than the upstream sends it, and the call waits for it: when the client last took bytes.
    behind: Cell<Option<Instant>>,
}

impl<O: CallObserver, T: 'static> Outbox<O, T> {
    pub(super) fn new(ready: Rc<Ready<O, T>>, waiter: T, call: Call<O::Space>) -> Self {
        let strict = call.is_strict();
        let (waiter, call) = (Rc::new(waiter), RefCell::new(Some(call)));
        let (sent, over, behind) = (Cell::new(None), Cell::new(false), Cell::new(None));
        Self { ready, waiter, call, over, strict, sent, behind }
    }

    /// Whether the last event was handed over.
    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Bytes of the answer's body handed over; `None` before its head was.
    pub(super) fn sent(&self) -> Option<u64> {
        self.sent.get()
    }

    /// While the call waits for its client to read: when the client last took bytes.
    pub(super) fn behind(&self) -> &Cell<Option<Instant>> {
        &self.behind
    }

    fn with<R>(&self, step: impl FnOnce(&mut Call<O::Space>) -> R) -> Option<R> {
        self.call.borrow_mut().as_mut().map(step)
    }

    /// An attempt begins.
    pub(super) fn attempt(&self, attempt: &Attempt) {
        self.with(|call| call.attempt(&attempt.origin, attempt.upstream));
    }

    /// The attempt failed; returns whether the next target is asked, if there is one.
    pub(super) fn attempt_failed(&self, failure: Failure) -> bool {
        self.with(|call| {
            call.attempt_failed(failure.error_type(false));
            failure.is_before_sending() && call.follows_failure()
        })
        .unwrap_or(false)
    }

    /// Judges the head of the attempt's answer.
    pub(super) fn judge(&self, status: StatusCode, headers: Option<&HeaderMap<HeaderValue>>) -> Judged {
        self.with(|call| call.judge(status, headers)).unwrap_or(Judged::Passes)
    }

    /// Whether a model answers.
    pub(super) fn is_of_model(&self) -> bool {
        self.with(|call| call.is_of_model()).unwrap_or(false)
    }

    /// The first byte of the request goes upstream now.
    pub(super) fn sending(&self) {
        self.with(|call| call.sending(call.request().arrived.elapsed()));
    }

    /// The whole answer is here.
    pub(super) fn whole(&self, status: StatusCode, headers: HeaderMap<HeaderValue>, body: Bytes) {
        let Some(mut head) = self.answer_head(status, headers, &body) else { return };
        let parts = self.with(|call| {
            let current = || self.ready.observer.in_force();
            let piece = call.piece(body, call.request().arrived.elapsed(), &current);
            call.bill(&mut head.own);
            (piece, call.rest(call.request().arrived.elapsed(), &current))
        });
        let (piece, rest) = parts.unwrap_or_default();
        let body = if rest.is_empty() { piece } else { [piece, rest].concat().into() };
        // Settled before the client can react: its next request must not meet this one's permit.
        self.complete();
        self.hand_over_recorded([Event::Whole(head, body)]);
    }

    /// The head of an answer is here; its body follows in pieces and begins with `first`.
    pub(super) fn head(&self, status: StatusCode, headers: HeaderMap<HeaderValue>, first: &[u8]) {
        let Some(head) = self.answer_head(status, headers, first) else { return };
        self.sent.set(Some(0));
        self.hand_over(Event::Head(head));
    }

    fn answer_head(&self, status: StatusCode, mut headers: HeaderMap<HeaderValue>, first: &[u8]) -> Option<AnswerHead> {
        let draining = self.ready.observer.shutdown().draining;
        let own = self.with(|call| {
            let after = call.request().arrived.elapsed();
            call.head(status, &mut headers, first, after, draining)
        })?;
        Some(AnswerHead { status, headers, own })
    }

    /// A piece of the body is here. Returns its bytes for the client.
    pub(super) fn read(&self, piece: Bytes) -> Bytes {
        let current = || self.ready.observer.in_force();
        self.with(|call| call.piece(piece, call.request().arrived.elapsed(), &current)).unwrap_or_default()
    }

    /// Bytes of the body go to the client, and more follow.
    pub(super) fn piece(&self, piece: Bytes) {
        self.chunk(piece);
    }

    /// Whether the body, which ended in order, ended inside an event: upstreams whose connection is the only mark of the end.
    pub(super) fn is_torn(&self) -> bool {
        self.with(|call| call.is_torn()).unwrap_or(false)
    }

    /// Whether the stream has ended at the boundary of a budget: the rest of the upstream's answer is not read.
    pub(super) fn is_cut(&self) -> bool {
        self.with(|call| call.is_over()).unwrap_or(false)
    }

    /// The upstream is silent: the client gets a comment, where one may stand.
    pub(super) fn ping(&self) {
        if let Some(ping) = self.with(Call::ping).flatten() {
            self.chunk(ping);
        }
    }

    /// The pace of the answer's body to `client`, which may read nothing for so long.
    pub(super) fn pace(&self, client: Option<ClientConnection>, unread: Duration) -> Pace {
        let room = self.ready.observer.room();
        let holder = self.with(|call| call.holder()).unwrap_or(Holder::Address(None));
        Pace::new(Arc::clone(room), room.nothing(holder), client, unread)
    }

    /// The body is whole: `last` are its last bytes. The client gets them behind the call's row in the ledger.
    pub(super) fn end(&self, last: Bytes) {
        let current = || self.ready.observer.in_force();
        let rest = self.with(|call| call.rest(call.request().arrived.elapsed(), &current)).unwrap_or_default();
        self.complete();
        let pieces = [last, rest].into_iter().filter(|piece| !piece.is_empty()).map(Event::Chunk);
        self.hand_over_recorded(pieces.chain([Event::End]));
    }

    /// The answer breaks off: its last words to the client, handed over. Returns their length in bytes; `None` without any.
    pub(super) fn last_words(&self, failure: Failure) -> Option<u64> {
        let cutting = self.ready.observer.shutdown().cutting;
        let words = self.with(|call| call.last_words(failure, cutting))??;
        let length = words.len() as u64;
        self.chunk(words);
        Some(length)
    }

    /// No (whole) answer comes. `unread`: the lot of the bytes that wait for the client.
    pub(super) fn failed(&self, failure: Failure, unread: Unread) {
        let Some(call) = self.call.take() else { return };
        let (after, client) = (call.request().arrived.elapsed(), call.request().connection());
        let (shutdown, now) = (self.ready.observer.shutdown(), self.ready.observer.now());
        let FailedCall { ended, answer } = call.failed(failure, self.sent.get().is_some(), shutdown, now, after);
        self.ready.observer.ended(&ended);
        self.hand_over_recorded([answer.map_or(Event::Cut(client, unread), Event::Answer)]);
    }

    /// The call's task panicked: its waiter gets a last event in any case.
    pub(super) fn abandon(&self) {
        if !self.is_over() {
            self.hand_over(Event::Cut(None, Unread::Sent));
        }
    }

    fn complete(&self) {
        if let Some(call) = self.call.take() {
            let after = call.request().arrived.elapsed();
            self.ready.observer.ended(&call.completed(after));
        }
    }

    fn chunk(&self, piece: Bytes) {
        if !piece.is_empty() {
            self.sent.set(self.sent.get().map(|sent| sent + piece.len() as u64));
            self.hand_over(Event::Chunk(piece));
        }
    }

    /// Hands over the last events of the call. A strict tier's wait for its entry; on a disk that fails, the answer is cut.
    fn hand_over_recorded(&self, events: impl IntoIterator<Item = Event> + 'static) {
        if !self.strict {
            for event in events {
                self.hand_over(event);
            }
            return;
        }
        self.over.set(true);
        let (ready, waiter) = (Rc::clone(&self.ready), Rc::clone(&self.waiter));
        tokio::task::spawn_local(async move {
            let recorded = tokio::time::timeout(STRICT, ready.observer.recorded()).await;
            if recorded.is_err() {
                return ready.add(&waiter, Event::Cut(None, Unread::Sent));
            }
            for event in events {
                ready.add(&waiter, event);
            }
        });
    }

    fn hand_over(&self, event: Event) {
        if event.is_last() {
            self.over.set(true);
        }
        self.ready.add(&self.waiter, event);
    }
}
