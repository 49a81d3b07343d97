//! Carries bytes between a client's TLS connection and the worker's own server, both ways at once.
//!
//! In: both connections. Out: nothing, when both directions have ended. Bytes are read into one buffer of the thread; only the bytes that the
//! other side does not take at once are kept, at most [`CHUNK`] for each direction. So an idle connection holds no buffer, and a reader that
//! is slow stops the writer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::timeout;

use super::carried::Torn;
use crate::idle::UNREAD;

/// Most bytes of one read: a record of TLS.
const CHUNK: usize = 16 * 1024;
/// The time that a client has to end its side after the server has ended its own.
const LINGER: Duration = Duration::from_secs(1);

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into());
}

/// The end of one direction.
enum End {
    /// The source ended cleanly.
    Clean,
    /// The source is gone.
    Source,
    /// The sink takes no more.
    Sink,
}

/// One direction.
#[derive(Default)]
struct Pump {
    held: Vec<u8>,
    written: usize,
    unflushed: bool,
}

impl Pump {
    /// Carries bytes from `source` to `sink` until one of them ends.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut source: Pin<&mut impl AsyncRead>,
        mut sink: Pin<&mut impl AsyncWrite>,
    ) -> Poll<End> {
        loop {
            while self.written < self.held.len() {
                match ready!(sink.as_mut().poll_write(cx, &self.held[self.written..])) {
                    Ok(bytes) if bytes > 0 => self.written += bytes,
                    _ => return Poll::Ready(End::Sink),
                }
            }
            self.forget();
            let read = BUFFER.with_borrow_mut(|buffer| {
                let mut read = ReadBuf::new(buffer);
                match source.as_mut().poll_read(cx, &mut read) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(_)) => return Poll::Ready(Some(End::Source)),
                    Poll::Ready(Ok(())) if read.filled().is_empty() => return Poll::Ready(Some(End::Clean)),
                    Poll::Ready(Ok(())) => {}
                }
                self.unflushed = true;
                let bytes = read.filled();
                match sink.as_mut().poll_write(cx, bytes) {
                    Poll::Ready(Ok(taken)) if taken == bytes.len() => {}
                    Poll::Ready(Ok(taken)) if taken > 0 => self.held.extend_from_slice(&bytes[taken..]),
                    Poll::Pending => self.held.extend_from_slice(bytes),
                    Poll::Ready(_) => return Poll::Ready(Some(End::Sink)),
                }
                Poll::Ready(None)
            });
            match read {
                Poll::Ready(None) => {}
                Poll::Ready(Some(end)) => return Poll::Ready(end),
                Poll::Pending if self.unflushed => {
                    if ready!(sink.as_mut().poll_flush(cx)).is_err() {
                        return Poll::Ready(End::Sink);
                    }
                    self.unflushed = false;
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Frees the buffer, whose bytes are all written.
    fn forget(&mut self) {
        if !self.held.is_empty() {
            (self.held, self.written) = (Vec::new(), 0);
        }
    }
}

/// How a client was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// It was told goodbye: the caller [`linger`]s.
    Told,
    /// It is gone, or its server was torn off: it was told nothing.
    Gone,
    /// It took nothing of the bytes before the goodbye for [`UNREAD`].
    Deaf,
}

/// Carries bytes until the server has ended its side, or one of them is gone.
/// A client that is `torn` off is told nothing, and gets the bytes that are on their way within [`LINGER`].
pub(super) async fn relay<C, S>(client: &mut C, server: &mut S, torn: &Torn) -> Left
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut relaying = pin!(both_ways(client, server, torn));
    tokio::select! {
        biased;
        told = &mut relaying => told,
        () = torn.wait() => timeout(LINGER, relaying).await.unwrap_or(Left::Gone),
    }
}

async fn both_ways<C, S>(client: &mut C, server: &mut S, torn: &Torn) -> Left
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Pump::default(), Pump::default());
    let mut up_ended = false;
    loop {
        let (upward, end) = poll_fn(|cx| {
            if !up_ended && let Poll::Ready(end) = up.poll(cx, Pin::new(client), Pin::new(server)) {
                return Poll::Ready((true, end));
            }
            down.poll(cx, Pin::new(server), Pin::new(client)).map(|end| (false, end))
        })
        .await;
        match (upward, end) {
            (true, End::Clean) => {
                up_ended = true;
                if server.shutdown().await.is_err() {
                    return Left::Gone;
                }
            }
            // The server has ended its side: its last bytes are on the way.
            (true, End::Sink) => up_ended = true,
            // A client that is gone, or a server that was torn off: without a goodbye, so that nothing torn looks whole.
            (true, End::Source) | (false, End::Source | End::Sink) => return Left::Gone,
            // The goodbye waits for the answer's bytes before it, which a client may never read.
            (false, End::Clean) => {
                return match timeout(UNREAD, client.shutdown()).await {
                    _ if torn.is() => Left::Gone,
                    Ok(Ok(())) => Left::Told,
                    Ok(Err(_)) => Left::Gone,
                    Err(_) => Left::Deaf,
                };
            }
        }
    }
}

/// Reads until a client has ended its side, and throws its bytes away: closing a socket with unread bytes would take the answer away
/// from a client that is still writing.
pub(super) async fn linger<C: AsyncRead + Unpin>(client: &mut C) {
    let _ = timeout(LINGER, poll_fn(|cx| discard(Pin::new(&mut *client), cx))).await;
}

fn discard(mut client: Pin<&mut impl AsyncRead>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    BUFFER.with_borrow_mut(|buffer| {
        loop {
            let mut read = ReadBuf::new(buffer);
            ready!(client.as_mut().poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    })
}
