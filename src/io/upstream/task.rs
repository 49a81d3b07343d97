//! One call as a task: its tries at one upstream after another, and the end of its answer.

use std::error::Error as _;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aigw_core::balance::failover::{Best, Worth};
use aigw_core::forward::{Attempt, Attempts, Dispatch, ModelAttempts};
use aigw_core::settle::Failure;
use aigw_core::surface::Judged;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::connection::Connection;
use super::observer::{CallObserver, Cancel};
use super::outbox::Outbox;
use super::outgoing::Outgoing;
use super::pool::Pool;
use super::response::{self, Way};
use super::shared::Shared;
use crate::socket::Reader;

/// Most bytes of an upstream's refusal that is kept, to be passed on when no other target answers.
const MAX_REFUSAL: u64 = 1024 * 1024;
/// The longest wait for the rest of a refusal, before the next target is asked.
const REFUSAL: Duration = Duration::from_secs(2);
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
        let mut best: Best<Result<Whole, Failure>> = Best::default();
        loop {
            self.outbox.attempt(&attempt);
            let next = match self.ask(&method, attempt, &mut others, way).await {
                Err(failure) => {
                    let followed = self.outbox.attempt_failed(failure);
                    if !failure.is_before_sending() {
                        // The upstream may have acted on the request: the client hears of that in any case.
                        return Err(failure);
                    }
                    best.add(Worth::Unreachable, Err(failure));
                    others.as_mut().filter(|_| followed).and_then(Iterator::next)
                }
                Ok(answered) => {
                    let Judged::Refused { stand_in, followed } = self.outbox.judge(answered.status()) else {
                        // The client's body and the other targets are not needed while a stream passes.
                        drop(others);
                        return self.pass(answered, no_body, way).await;
                    };
                    let next = others.as_mut().filter(|_| followed).and_then(Iterator::next);
                    match (stand_in, &next) {
                        (Some(failure), _) => {
                            best.add(Worth::Operators, Err(failure));
                            tokio::task::spawn_local(answered.whole());
                        }
                        (None, Some(_)) => match answered.whole().await {
                            Ok(whole) => best.add(Worth::Whole, Ok(whole)),
                            Err(failure) => best.add(Worth::Torn, Err(failure)),
                        },
                        (None, None) => match self.pass(answered, no_body, way).await {
                            // Of its head nothing has passed on.
                            Err(failure) if self.outbox.sent().is_none() => best.add(Worth::Torn, Err(failure)),
                            passed => return passed,
                        },
                    }
                    next
                }
            };
            let Some(next) = next else { break };
            self.shared.means.counters.failovers.fetch_add(1, Ordering::Relaxed);
            attempt = next;
        }
        let (status, headers, body) = best.take().unwrap_or(Err(Failure::Internal))?;
        self.outbox.whole(status, headers, body);
        Ok(())
    }

    /// Passes an answer on, and keeps its connection for another request.
    async fn pass(&self, answered: Answered, no_body: bool, way: Way) -> Result<(), Failure> {
        match answered {
            Answered::Begun(sent) => {
                response::pass(&self.outbox, sent.answer, no_body, way).await?;
                sent.pool.give_back(sent.connection);
            }
            Answered::Whole((status, headers, body)) => self.outbox.whole(status, headers, body),
        }
        Ok(())
    }

    /// Sends one attempt; a model's target that refuses a parameter is asked once more in other words, and its last answer
    /// counts.
    async fn ask(
        &self,
        method: &Method,
        mut attempt: Attempt,
        others: &mut Option<Box<ModelAttempts>>,
        way: Way,
    ) -> Result<Answered, Failure> {
        loop {
            let sent = self.send(method.clone(), attempt, way).await?;
            let status = sent.answer.status();
            let Some(model) = others.as_mut().filter(|model| model.answered(status)) else {
                return Ok(Answered::Begun(sent));
            };
            let whole = keep(sent).await?;
            match model.reworded(status, &whole.2) {
                Some(again) => attempt = again,
                None => return Ok(Answered::Whole(whole)),
            }
        }
    }

    /// Send one attempt and wait for the head of its answer.
    async fn send(&self, method: Method, attempt: Attempt, way: Way) -> Result<Sent, Failure> {
        let pool = self.shared.pool(&attempt.origin);
        let unsaid = attempt.body.is_empty() && matches!(method, Method::POST | Method::PUT | Method::PATCH);
        let mut request = Request::new(Outgoing::new(attempt.body));
        *request.method_mut() = method;
        *request.headers_mut() = attempt.headers;
        let mut target = attempt.target;
        if let Some((before, authorization)) = pool.whole_url() {
            target.insert_str(0, &before);
            if let Some(authorization) = authorization {
                request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
            }
        }
        *request.uri_mut() = target.parse().map_err(|_| Failure::Internal)?;
        if unsaid {
            // Servers may demand a length where a body is usual (411), and for an empty one the client's library says none.
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        loop {
            let (mut connection, pooled) = pool.take(&self.shared.means, way.deadlines.connect).await?;
            self.outbox.sending();
            let taken = request.body().taken();
            let answer = connection.sender.try_send_request(request);
            let answered = match taken {
                None => tokio::time::timeout(way.deadlines.first_byte, answer).await.ok(),
                Some(taken) => taken.wait_for(answer, way.deadlines).await,
            };
            match answered {
                None => return Err(Failure::FirstByteTimeout),
                Some(Ok(answer)) => {
                    if pooled {
                        self.shared.means.counters.reused.fetch_add(1, Ordering::Relaxed);
                    }
                    return Ok(Sent { connection, pool, answer });
                }
                Some(Err(mut error)) => match error.take_message() {
                    // Nothing of the request was written: the pooled socket was closed before. Another connection may be
                    // used.
                    Some(unsent) if pooled => request = unsent,
                    _ if connection.has_vanished() => return Err(Failure::Vanished),
                    _ => return Err(failure_of(error.error())),
                },
            }
        }
    }
}

/// An answer whose head is here, the connection it comes over, and the pool that this belongs to.
struct Sent {
    connection: Connection,
    pool: Rc<Pool>,
    answer: Response<Incoming>,
}

/// A whole answer.
type Whole = (StatusCode, HeaderMap<HeaderValue>, Bytes);

/// The answer of an attempt.
enum Answered {
    /// Its head is here.
    Begun(Sent),
    /// It was read to its end, to see which parameter it refuses.
    Whole(Whole),
}

impl Answered {
    fn status(&self) -> StatusCode {
        match self {
            Self::Begun(sent) => sent.answer.status(),
            Self::Whole((status, ..)) => *status,
        }
    }

    /// The answer, read to its end.
    async fn whole(self) -> Result<Whole, Failure> {
        match self {
            Self::Begun(sent) => keep(sent).await,
            Self::Whole(whole) => Ok(whole),
        }
    }
}

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

/// Reads a refusal of an upstream to its end, within bounds: the next target waits for it. A whole one can be passed on
/// later, and its connection used again.
async fn keep(Sent { connection, pool, answer }: Sent) -> Result<Whole, Failure> {
    let (mut head, mut body) = answer.into_parts();
    let by = Instant::now() + REFUSAL;
    let mut held = BytesMut::new();
    while let Some(data) = response::next(&mut body, by.saturating_duration_since(Instant::now())).await? {
        held.extend_from_slice(&data);
        if held.len() as u64 > MAX_REFUSAL {
            return Err(Failure::TooLarge);
        }
    }
    pool.give_back(connection);
    response::strip_hop_by_hop(&mut head.headers);
    head.headers.remove(CONTENT_LENGTH);
    Ok((head.status, head.headers, held.freeze()))
}

impl<O: CallObserver, T> Drop for CallTask<O, T> {
    fn drop(&mut self) {
        if !self.outbox.is_over() {
            self.shared.means.counters.panics.fetch_add(1, Ordering::Relaxed);
            self.shared.survive(|| self.outbox.failed(Failure::Internal));
            self.outbox.abandon();
        }
    }
}

fn failure_of(error: &hyper::Error) -> Failure {
    if error.is_parse() {
        return Failure::Garbage;
    }
    // The kernel's keep-alive found nobody, or a router said so.
    let gone = error.source().and_then(|source| source.downcast_ref::<std::io::Error>()).is_some_and(|error| {
        matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable)
    });
    if gone { Failure::Vanished } else { Failure::Reset }
}
