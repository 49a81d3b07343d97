//! One call as a task: its tries at one upstream after another, and the end of its answer.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aigw_core::balance::failover;
use aigw_core::forward::{Attempt, Attempts, Dispatch};
use aigw_core::settle::Failure;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::observer::{CallObserver, Cancel};
use super::outbox::Outbox;
use super::outgoing::Outgoing;
use super::pool::{Pool, Sender};
use super::response::{self, Way};
use super::shared::Shared;
use crate::socket::Reader;

/// Most bytes of an upstream's refusal that is kept, to be passed on when no other target answers.
const MAX_REFUSAL: u64 = 1024 * 1024;
/// The longest wait until the last bytes of a torn answer have reached the client.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// Interval at which the client's socket is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// One call being served. A call that is dropped without a last event (a panic) reports a fault of the gateway: no client
/// waits for ever.
pub(super) struct CallTask<O: CallObserver, T> {
    pub(super) shared: Rc<Shared>,
    pub(super) outbox: Outbox<O, T>,
}

impl<O: CallObserver, T> CallTask<O, T> {
    pub(super) async fn run(self, dispatch: Dispatch, cancel: Arc<Cancel>) {
        let (total, peer) = (dispatch.deadlines.total, dispatch.peer);
        let outcome = tokio::select! {
            biased;
            () = cancel.wait() => Err(Failure::Cancelled),
            outcome = tokio::time::timeout(total, self.serve(dispatch)) => outcome.unwrap_or(Err(Failure::TotalTimeout)),
        };
        if let Err(failure) = outcome {
            if let Some(sent) = self.outbox.sent() {
                let words = self.outbox.last_words(failure);
                // A client that left reads nothing more; a client that a shutdown cuts does.
                if failure != Failure::Cancelled || words.is_some() {
                    conclude(sent, words.unwrap_or(0), peer).await;
                }
            }
            self.outbox.failed(failure);
        }
    }

    async fn serve(&self, dispatch: Dispatch) -> Result<(), Failure> {
        let Dispatch { method, attempts, deadlines, peer, max_answer, whole, ping } = dispatch;
        let Attempts { first: mut attempt, mut others } = attempts;
        let way = Way { deadlines, peer, max_answer, whole, ping };
        let no_body = method == Method::HEAD;
        let mut kept = None;
        loop {
            let sent = self.send(method.clone(), attempt, way).await;
            let next = match &sent {
                Ok((_, _, answer)) if !failover::after_answer(answer.status()) => None,
                Err(failure) if !failure.is_before_sending() => None,
                _ => others.as_mut().and_then(Iterator::next),
            };
            match (sent, next) {
                (Ok((sender, pool, answer)), None) => {
                    response::pass(&self.outbox, answer, no_body, way).await?;
                    pool.give_back(sender);
                    return Ok(());
                }
                (Err(failure), None) => {
                    // Another target's whole refusal is more useful than a target that cannot be reached.
                    return match kept {
                        Some((status, headers, body)) if failure.is_before_sending() => {
                            self.outbox.whole(status, headers, body);
                            Ok(())
                        }
                        _ => Err(failure),
                    };
                }
                (sent, Some(next)) => {
                    if let Ok((sender, pool, answer)) = sent {
                        kept = Some(keep(answer, way).await?);
                        pool.give_back(sender);
                    }
                    self.shared.counters.failovers.fetch_add(1, Ordering::Relaxed);
                    attempt = next;
                }
            }
        }
    }

    /// Send one attempt and wait for the head of its answer.
    async fn send(&self, method: Method, attempt: Attempt, way: Way) -> Result<Sent, Failure> {
        let pool = self.shared.pool(&attempt.origin);
        let unsaid = attempt.body.is_empty() && matches!(method, Method::POST | Method::PUT | Method::PATCH);
        let mut request = Request::new(Outgoing::new(attempt.body));
        *request.method_mut() = method;
        *request.uri_mut() = attempt.target.parse().map_err(|_| Failure::Internal)?;
        *request.headers_mut() = attempt.headers;
        if unsaid {
            // Servers may demand a length where a body is usual (411), and for an empty one the client's library says none.
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let mut idle = pool.idle();
        loop {
            let pooled = idle.is_some();
            let mut sender = match idle.take() {
                Some(sender) => sender,
                None => {
                    pool.connect(&self.shared.resolver, &self.shared.tls, way.deadlines.connect, &self.shared.counters)
                        .await?
                }
            };
            self.outbox.sending();
            let taken = request.body().taken();
            let answer = sender.try_send_request(request);
            let answered = match taken {
                None => tokio::time::timeout(way.deadlines.first_byte, answer).await.ok(),
                Some(taken) => taken.wait_for(answer, way.deadlines).await,
            };
            match answered {
                None => return Err(Failure::FirstByteTimeout),
                Some(Ok(answer)) => {
                    if pooled {
                        self.shared.counters.reused.fetch_add(1, Ordering::Relaxed);
                    }
                    return Ok((sender, pool, answer));
                }
                Some(Err(mut error)) => match error.take_message() {
                    // Nothing of the request was written: the pooled socket was closed before. Another connection may be
                    // used.
                    Some(unsent) if pooled => {
                        request = unsent;
                        idle = pool.idle();
                    }
                    _ => return Err(failure_of(error.error())),
                },
            }
        }
    }
}

/// A connection, the pool it belongs to, and the answer whose head came over it.
type Sent = (Sender, Rc<Pool>, Response<Incoming>);
/// A whole answer.
type Whole = (StatusCode, HeaderMap<HeaderValue>, Bytes);

/// Waits until the client has read the `sent` bytes of its answer and the `more` that follow them: the cut must not overtake
/// them.
async fn conclude(sent: u64, more: u64, peer: Option<SocketAddr>) {
    let reader = peer.and_then(|peer| Reader::find(peer, sent));
    let by = Instant::now() + LAST_WORDS;
    tokio::time::sleep(LOOK).await;
    while reader.as_ref().is_some_and(|reader| reader.behind(sent + more) > 0) && Instant::now() < by {
        tokio::time::sleep(LOOK).await;
    }
}

/// Reads a refusal of an upstream to its end: only a whole refusal leaves no doubt.
async fn keep(answer: Response<Incoming>, way: Way) -> Result<Whole, Failure> {
    let (mut head, mut body) = answer.into_parts();
    let mut held = BytesMut::new();
    while let Some(data) = response::next(&mut body, way.deadlines.between).await? {
        held.extend_from_slice(&data);
        if held.len() as u64 > MAX_REFUSAL {
            return Err(Failure::TooLarge);
        }
    }
    response::strip_hop_by_hop(&mut head.headers);
    head.headers.remove(CONTENT_LENGTH);
    Ok((head.status, head.headers, held.freeze()))
}

impl<O: CallObserver, T> Drop for CallTask<O, T> {
    fn drop(&mut self) {
        if !self.outbox.is_over() {
            self.shared.counters.panics.fetch_add(1, Ordering::Relaxed);
            self.shared.survive(|| self.outbox.failed(Failure::Internal));
            self.outbox.abandon();
        }
    }
}

fn failure_of(error: &hyper::Error) -> Failure {
    if error.is_parse() { Failure::Garbage } else { Failure::Reset }
}
