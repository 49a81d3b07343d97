//! One call as a task: its tries at one upstream after another, and the end of its answer.

use aigw_core::request::ClientConnection;
use std::error::Error as _;
use std::io::ErrorKind;
use std::mem::take;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aigw_core::balance::ConnectFault;
use aigw_core::balance::failover::{Best, Worth};
use aigw_core::forward::{Attempt, Attempts, Dispatch, Others};
use aigw_core::settle::Failure;
use aigw_core::stream::patience::SMALL;
use aigw_core::surface::Judged;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::connection::Connection;
use super::dial::refused_certificate;
use super::fault::Fault;
use super::observer::{CallObserver, Cancel};
use super::outbox::Outbox;
use super::outgoing::Outgoing;
use super::pool::Pool;
use super::proxy::NO_CREDENTIALS;
use super::response::{self, Way};
use super::shared::Shared;
use crate::socket::{Reader, Unread};

/// Most bytes of an upstream's refusal that is kept, to be passed on when no other target answers.
const MAX_REFUSAL: u64 = 1024 * 1024;
/// The longest wait for the rest of a refusal, before the next target is asked.
const REFUSAL: Duration = Duration::from_secs(2);
/// The longest wait until the last bytes of a torn answer have reached the client.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// A client that took nothing for this long when its call's time is over gets no byte more.
const DEAF: Duration = Duration::from_secs(5);
/// Interval at which the client's socket is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// One call being served. A call that is dropped without a last event (a panic) reports a fault of the gateway: no client
/// waits for ever.
pub(super) struct CallTask<O: CallObserver, T: 'static> {
    pub(super) shared: Rc<Shared>,
    pub(super) outbox: Outbox<O, T>,
}

impl<O: CallObserver, T: 'static> CallTask<O, T> {
    pub(super) async fn run(&self, dispatch: Dispatch, cancel: Arc<Cancel>) {
        let (total, unread, client) = (dispatch.deadlines.total, dispatch.deadlines.unread, dispatch.client);
        let outcome = tokio::select! {
            biased;
            () = cancel.wait() => Err(Failure::Cancelled),
            outcome = tokio::time::timeout(total, self.serve(dispatch)) => outcome.unwrap_or_else(|_| Err(self.overdue())),
        };
        if let Err(failure) = outcome {
            if let Some(sent) = self.outbox.sent() {
                let words = self.outbox.last_words(failure);
                // A client that left or reads nothing takes no more; a client that a shutdown cuts does.
                if !failure.is_deaf() || words.is_some() {
                    conclude(sent, words.unwrap_or(0), client).await;
                }
            }
            let mut left = Unread::Sent;
            if failure == Failure::ClientStalled {
                self.shared.means.counters.stalled.fetch_add(1, Ordering::Relaxed);
                let silence = self.outbox.behind().get().map(|since| since.elapsed());
                if silence.is_some_and(|silence| silence >= unread.min(DEAF)) {
                    left = Unread::Dropped;
                }
            }
            self.outbox.failed(failure, left);
        }
    }

    /// The failure of a call that took too long. An upstream is not read while its call waits for the client.
    fn overdue(&self) -> Failure {
        if self.outbox.behind().get().is_some() { Failure::ClientStalled } else { Failure::TotalTimeout }
    }

    async fn serve(&self, dispatch: Dispatch) -> Result<(), Failure> {
        let Dispatch { method, attempts, deadlines, client, max_answer, whole, ping } = dispatch;
        let Attempts { first: mut attempt, mut others } = attempts;
        let way = Way { deadlines, client, max_answer, whole, ping };
        let no_body = method == Method::HEAD;
        let mut best: Best<Result<Whole, Failure>> = Best::default();
        loop {
            self.outbox.attempt(&attempt);
            let next = match self.ask(&method, &mut attempt, &mut others, way).await {
                Err(failure) => {
                    let followed = self.outbox.attempt_failed(failure);
                    if let (Some(others), Some(lost)) = (&others, failure.lost()) {
                        others.lost(lost);
                    }
                    if !failure.is_before_sending() {
                        // The upstream may have acted on the request: the client hears of that in any case.
                        return Err(failure);
                    }
                    best.add(Worth::Unreachable, Err(failure));
                    others.as_mut().filter(|_| followed).and_then(Iterator::next)
                }
                Ok(answered) => {
                    let Judged::Refused { stand_in, followed } =
                        self.outbox.judge(answered.status(), answered.headers())
                    else {
                        // The client's body and the other targets are not needed while a stream passes.
                        let _busy = others.and_then(Others::into_busy);
                        return self.pass(answered, no_body, way).await;
                    };
                    let next = others.as_mut().filter(|_| followed).and_then(Iterator::next);
                    match (stand_in, &next) {
                        (Some(failure), _) => {
                            best.add(Worth::Operators, Err(failure));
                            tokio::task::spawn_local(answered.whole());
                        }
                        // In boxes, as all that few calls do: every call's task has room for its largest step.
                        (None, Some(_)) => match Box::pin(answered.whole()).await {
                            Ok(whole) => best.add(Worth::Whole, Ok(whole)),
                            Err(failure) => best.add(Worth::Torn, Err(failure)),
                        },
                        (None, None) => match Box::pin(self.pass(answered, no_body, way)).await {
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
                // A connection whose answer was left is dropped: that cancels the upstream's call.
                if response::pass(&self.outbox, sent.answer, sent.begin, no_body, way).await? {
                    sent.pool.give_back(sent.connection);
                }
            }
            Answered::Whole((status, headers, body)) => self.outbox.whole(status, headers, body),
            Answered::Torn(_, failure) => return Err(failure),
        }
        Ok(())
    }

    /// Sends one attempt; a model's target that refuses a parameter is asked once more in other words, and its last answer
    /// counts.
    async fn ask(
        &self,
        method: &Method,
        attempt: &mut Attempt,
        others: &mut Option<Others>,
        way: Way,
    ) -> Result<Answered, Failure> {
        loop {
            let sent = self.send(method.clone(), attempt, way).await?;
            let status = sent.answer.status();
            let Some(model) = others.as_mut().filter(|model| model.answered(status)) else {
                return Ok(Answered::Begun(sent));
            };
            let answered = Box::pin(peek(sent)).await;
            match answered.begin().and_then(|begin| model.reworded(status, begin)) {
                Some(again) => *attempt = again,
                None => return Ok(answered),
            }
        }
    }

    /// Send one attempt, whose parts it takes, and wait for the head of its answer.
    async fn send(&self, method: Method, attempt: &mut Attempt, way: Way) -> Result<Sent, Failure> {
        let pool = self.shared.pool(&attempt.origin);
        let unsaid = attempt.body.is_empty() && matches!(method, Method::POST | Method::PUT | Method::PATCH);
        let mut request = Request::new(Outgoing::new(take(&mut attempt.body)));
        *request.method_mut() = method;
        *request.headers_mut() = take(&mut attempt.headers);
        let mut target = take(&mut attempt.target);
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
            connection.await_head();
            let taken = request.body().taken();
            let answer = connection.sender.try_send_request(request);
            let answered = match taken {
                None => tokio::time::timeout(way.deadlines.first_byte, answer).await.ok(),
                Some(taken) => taken.wait_for(answer, way.deadlines).await,
            };
            match answered {
                None => return Err(Failure::FirstByteTimeout),
                // On this way the proxy speaks first: a 407 is its own, and the upstream did not see the request.
                Some(Ok(answer))
                    if answer.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED
                        && let Some(proxy) = pool.whole_url_proxy() =>
                {
                    let words = format!("the proxy {} passes nothing on: {NO_CREDENTIALS}", proxy.shown());
                    let fault = Fault::new(ConnectFault::Proxy, words);
                    return Err(pool.refused(connection.peer, fault, &self.shared.means));
                }
                Some(Ok(answer)) => {
                    connection.has_head();
                    if pooled {
                        self.shared.means.counters.reused.fetch_add(1, Ordering::Relaxed);
                    }
                    return Ok(Sent { connection, pool, answer, begin: BytesMut::new() });
                }
                Some(Err(mut error)) => match error.take_message() {
                    // Nothing of the request was written: the pooled socket was closed before. Another connection may be
                    // used.
                    Some(unsent) if pooled => request = unsent,
                    _ if let Some(failure) = connection.failure() => return Err(failure),
                    // With TLS 1.3 a server judges the gateway's certificate behind the greeting, and before any request.
                    _ if !pooled && let Some(fault) = refused_certificate(error.error()) => {
                        return Err(pool.refused(connection.peer, fault, &self.shared.means));
                    }
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
    /// The bytes of its body that were read to see which parameter it refuses.
    begin: BytesMut,
}

/// A whole answer.
type Whole = (StatusCode, HeaderMap<HeaderValue>, Bytes);

/// The answer of an attempt.
enum Answered {
    /// Its head is here, and a part of its body may be.
    Begun(Sent),
    /// It was read to its end.
    Whole(Whole),
    /// Its body broke off, or cannot be read.
    Torn(StatusCode, Failure),
}

impl Answered {
    fn status(&self) -> StatusCode {
        match self {
            Self::Begun(sent) => sent.answer.status(),
            Self::Whole((status, ..)) | Self::Torn(status, _) => *status,
        }
    }

    /// Its headers; `None` for a body that broke off.
    fn headers(&self) -> Option<&HeaderMap<HeaderValue>> {
        match self {
            Self::Begun(sent) => Some(sent.answer.headers()),
            Self::Whole((_, headers, _)) => Some(headers),
            Self::Torn(..) => None,
        }
    }

    /// The bytes of its body that are here; `None` for a body that broke off.
    fn begin(&self) -> Option<&[u8]> {
        match self {
            Self::Begun(sent) => Some(&sent.begin),
            Self::Whole((_, _, body)) => Some(body),
            Self::Torn(..) => None,
        }
    }

    /// The answer, read to its end.
    async fn whole(self) -> Result<Whole, Failure> {
        match self {
            Self::Begun(sent) => keep(sent).await,
            Self::Whole(whole) => Ok(whole),
            Self::Torn(_, failure) => Err(failure),
        }
    }
}

/// Waits until the client has read the `sent` bytes of its answer and the `more` that follow them: the cut must not overtake
/// them.
async fn conclude(sent: u64, more: u64, client: Option<ClientConnection>) {
    let reader = client.and_then(|client| Reader::find(client, sent));
    let by = Instant::now() + LAST_WORDS;
    tokio::time::sleep(LOOK).await;
    while reader.as_ref().is_some_and(|reader| reader.behind(sent + more) > 0) && Instant::now() < by {
        tokio::time::sleep(LOOK).await;
    }
}

/// The part of a refusal that was read.
enum Read {
    Whole(Whole),
    /// It goes on beyond this bound.
    Part(Sent, Failure),
}

/// Reads a refusal of an upstream to its end, within bounds: the next target waits for it. A whole one can be passed on
/// later, and its connection used again.
async fn keep(sent: Sent) -> Result<Whole, Failure> {
    match read(sent, MAX_REFUSAL).await? {
        Read::Whole(whole) => Ok(whole),
        Read::Part(_, bound) => Err(bound),
    }
}

/// Reads the begin of a refusal, which names the refused parameter. The rest of a long or slow one is left to be passed on.
async fn peek(sent: Sent) -> Answered {
    let status = sent.answer.status();
    match read(sent, SMALL).await {
        Ok(Read::Whole(whole)) => Answered::Whole(whole),
        Ok(Read::Part(sent, _)) => Answered::Begun(sent),
        Err(failure) => Answered::Torn(status, failure),
    }
}

/// Reads a model's refusal to its end, or up to so many bytes and [`REFUSAL`].
async fn read(mut sent: Sent, most: u64) -> Result<Read, Failure> {
    response::check_framing(sent.answer.headers())?;
    response::check_coding(sent.answer.headers())?;
    let by = Instant::now() + REFUSAL;
    loop {
        match response::next(sent.answer.body_mut(), by.saturating_duration_since(Instant::now())).await {
            Ok(Some(data)) => sent.begin.extend_from_slice(&data),
            Ok(None) => break,
            Err(bound @ Failure::BetweenTimeout) => return Ok(Read::Part(sent, bound)),
            Err(failure) => return Err(failure),
        }
        if sent.begin.len() as u64 > most {
            return Ok(Read::Part(sent, Failure::TooLarge));
        }
    }
    let Sent { connection, pool, answer, begin } = sent;
    pool.give_back(connection);
    let (mut head, _) = answer.into_parts();
    response::strip_hop_by_hop(&mut head.headers);
    head.headers.remove(CONTENT_LENGTH);
    Ok(Read::Whole((head.status, head.headers, begin.freeze())))
}

impl<O: CallObserver, T: 'static> Drop for CallTask<O, T> {
    fn drop(&mut self) {
        if !self.outbox.is_over() {
            self.shared.means.counters.panics.fetch_add(1, Ordering::Relaxed);
            self.shared.survive(|| self.outbox.failed(Failure::Internal, Unread::Sent));
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
