//! An upstream's answer on its way to the client: small ones whole, others piece by piece, each read within its bound,
//! never faster than the client takes them.
//!
//! The core says how long a head waits for its body (`stream/patience`).
//!
//! Reading from the upstream stops while too many bytes wait for the client (`pace`).

use super::observer::CallObserver;
use super::outbox::Outbox;
use aigw_core::balance::Deadlines;
use aigw_core::request::ClientConnection;
use aigw_core::settle::Failure;
use aigw_core::stream::patience::{SMALL, is_over, patience};
use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::future::poll_fn;
use std::mem::take;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// Pieces that come closer together than this go out as one. A model's tokens are milliseconds apart and do not wait; an
/// answer that is there all at once does not cost a wake-up for each line.
const TOGETHER: Duration = Duration::from_millis(1);
/// The last event of a stream of OpenAI's dialect.
const DONE: &[u8] = b"[DONE]";
/// The longest wait of the last event for the end of its stream: servers write both within a millisecond. A client that has the
/// last event sends its next call at once, which must not meet the permit of this one.
const WITH_THE_END: Duration = Duration::from_millis(5);

/// How an answer may travel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub(super) deadlines: Deadlines,
    pub(super) client: Option<ClientConnection>,
    pub(super) max_answer: u64,
    pub(super) whole: bool,
    /// How often a silent stream gets a comment.
    pub(super) ping: Option<Duration>,
}

/// A buffer of this size and less is used again for the next piece.
const SMALL_BUFFER: usize = 8 * 1024;

/// Headers that belong to one connection, not to the message (RFC 9110 s.7.6.1), with the old proxies' own.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    http::header::PROXY_AUTHENTICATE,
    http::header::TE,
    http::header::TRAILER,
    TRANSFER_ENCODING,
    http::header::UPGRADE,
];

/// Pass an answer on, whose body has `begin` and what follows. True: it was read to the end, and its connection can be used again.
pub(super) async fn pass<O: CallObserver, T: 'static>(
    outbox: &Outbox<O, T>,
    answer: Response<Incoming>,
    begin: BytesMut,
    no_body: bool,
    way: Way,
) -> Result<bool, Failure> {
    let (mut head, mut body) = answer.into_parts();
    check_framing(&head.headers)?;
    let mut held = begin;
    let named = body.size_hint().exact().map(|left| left + held.len() as u64);
    strip_hop_by_hop(&mut head.headers);
    if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::Garbage);
    }
    if no_body || (held.is_empty() && body.is_end_stream()) {
        outbox.whole(head.status, head.headers, Bytes::new());
        return Ok(true);
    }
    if named.is_some_and(|length| length > way.max_answer) {
        return Err(Failure::TooLarge);
    }
    if outbox.is_of_model() {
        check_coding(&head.headers)?;
        head.headers.remove(CONTENT_ENCODING);
    }
    if let Some(patience) = patience(&head.headers, named, way.whole) {
        let between = way.deadlines.between;
        let until = Instant::now().checked_add(patience);
        while held.len() as u64 <= SMALL {
            let within = until.map_or(between, |until| until.saturating_duration_since(Instant::now()).min(between));
            match next(&mut body, within).await {
                Ok(Some(data)) => {
                    held.extend_from_slice(&data);
                    if is_over(&held, named, way.whole) {
                        break;
                    }
                }
                Ok(None) => {
                    head.headers.remove(CONTENT_LENGTH);
                    outbox.whole(head.status, head.headers, held.freeze());
                    return Ok(true);
                }
                Err(Failure::BetweenTimeout) if within < between => break,
                Err(failure) => return Err(failure),
            }
        }
    }
    outbox.head(head.status, head.headers, &held);
    // In a box: an answer that is whole by now needs no room for it.
    let (whole, last) = Box::pin(stream(outbox, body, held, way)).await?;
    if whole && outbox.is_torn() {
        outbox.piece(last);
        return Err(Failure::CutShort);
    }
    outbox.end(last);
    Ok(whole)
}

/// Passes the pieces of a body on, but for the last. Returns whether the body was read to its end: a budget may end it before; and the last bytes
/// for the client.
async fn stream<O: CallObserver, T: 'static>(
    outbox: &Outbox<O, T>,
    mut body: Incoming,
    mut held: BytesMut,
    way: Way,
) -> Result<(bool, Bytes), Failure> {
    let mut came: u64 = 0;
    let mut pace = outbox.pace(way.client, way.deadlines.unread);
    let mut last: Option<Instant> = None;
    loop {
        if held.is_empty() {
            match next_with_pings(outbox, &mut body, way).await? {
                Some(data) => held.extend_from_slice(&data),
                None => return Ok((true, Bytes::new())),
            }
        }
        if let Some(last) = last
            && last.elapsed() < TOGETHER
        {
            tokio::time::sleep_until(last + TOGETHER).await;
        }
        // Bytes that came before a fault go to the client all the same.
        let mut gathered = gather(&mut body, &mut held, pace.piece()).await;
        if matches!(gathered, Ok(false)) && held.trim_ascii_end().ends_with(DONE) {
            gathered = gather_end(&mut body, &mut held).await;
        }
        came = came.saturating_add(held.len() as u64);
        if came > way.max_answer {
            return Err(Failure::TooLarge);
        }
        // The rest of a large buffer would be held for as long as the client does not read.
        let taken = if held.capacity() > SMALL_BUFFER { take(&mut held) } else { held.split() };
        let piece = outbox.read(taken.freeze());
        if outbox.is_cut() {
            return Ok((false, piece));
        }
        if matches!(gathered, Ok(true)) {
            return Ok((true, piece));
        }
        // The upstream's bytes that stay behind never reach the client.
        pace.before(outbox.sent().unwrap_or(0), piece.len());
        outbox.piece(piece);
        last = Some(Instant::now());
        gathered?;
        pace.keep(outbox.sent().unwrap_or(0), outbox.behind()).await?;
    }
}

/// The next piece of the body, as [`next`]. The client of a silent upstream gets comments meanwhile, which are no sign of life of
/// the upstream.
async fn next_with_pings<O: CallObserver, T: 'static>(
    outbox: &Outbox<O, T>,
    body: &mut Incoming,
    way: Way,
) -> Result<Option<Bytes>, Failure> {
    let between = way.deadlines.between;
    let Some(ping) = way.ping else { return next(body, between).await };
    let since = Instant::now();
    loop {
        let left = between.saturating_sub(since.elapsed());
        match next(body, ping.min(left)).await {
            Err(Failure::BetweenTimeout) if ping < left => outbox.ping(),
            piece => return piece,
        }
    }
}

/// Adds the pieces that are ready to `held`, up to `most` bytes, to go out together. True at the body's end.
///
/// The connection's task hands over one piece at a time: it gets a pause before an empty channel counts as the end. The end of a body with a
/// length is known with its last byte: the server knows it by then, too, and takes a client that it answered for one that left.
async fn gather(body: &mut Incoming, held: &mut BytesMut, most: usize) -> Result<bool, Failure> {
    let mut paused = false;
    while held.len() < most {
        match ready(body).await? {
            Some(Some(data)) => {
                held.extend_from_slice(&data);
                paused = false;
            }
            Some(None) => return Ok(true),
            None if paused => break,
            None => {
                tokio::task::yield_now().await;
                paused = true;
            }
        }
    }
    Ok(body.is_end_stream())
}

/// Waits a little for the end of a body whose last event is held. True at the body's end.
async fn gather_end(body: &mut Incoming, held: &mut BytesMut) -> Result<bool, Failure> {
    match next(body, WITH_THE_END).await {
        Ok(Some(data)) => held.extend_from_slice(&data),
        Ok(None) => return Ok(true),
        Err(Failure::BetweenTimeout) => {}
        Err(failure) => return Err(failure),
    }
    Ok(false)
}

/// The next piece of the body, within `limit`; `None` at its end. Trailers are dropped.
pub(super) async fn next(body: &mut Incoming, limit: Duration) -> Result<Option<Bytes>, Failure> {
    loop {
        let frame = tokio::time::timeout(limit, body.frame()).await.map_err(|_| Failure::BetweenTimeout)?;
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(Failure::CutShort),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A piece that is there already: `None` without one, `Some(None)` at the end.
async fn ready(body: &mut Incoming) -> Result<Option<Option<Bytes>>, Failure> {
    loop {
        let mut frame = pin!(body.frame());
        let polled = poll_fn(|context| Poll::Ready(frame.as_mut().poll(context))).await;
        match polled {
            Poll::Pending => return Ok(None),
            Poll::Ready(None) => return Ok(Some(None)),
            Poll::Ready(Some(Err(_))) => return Err(Failure::CutShort),
            Poll::Ready(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(Some(data)));
                }
            }
        }
    }
}

/// Refuses an answer with two lengths: a client that believes the other header would read another answer.
pub(super) fn check_framing(headers: &HeaderMap<HeaderValue>) -> Result<(), Failure> {
    let two = headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH);
    if two { Err(Failure::Garbage) } else { Ok(()) }
}

/// Refuses an encoded answer of a model: identity was asked for, and the usage of other bytes cannot be read.
pub(super) fn check_coding(headers: &HeaderMap<HeaderValue>) -> Result<(), Failure> {
    if is_encoded(headers) { Err(Failure::Encoding) } else { Ok(()) }
}

/// Whether the content has a coding.
fn is_encoded(headers: &HeaderMap<HeaderValue>) -> bool {
    headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .flat_map(|codings| codings.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap<HeaderValue>) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    // Most answers have none of them, and one look at the names costs less than eight look-ups.
    if headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
    }
}
