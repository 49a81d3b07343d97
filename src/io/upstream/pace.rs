//! Keeps an answer from running ahead of its client.
//!
//! The server's stream pushes nothing back, so the client's own socket is asked how much the kernel has taken
//! (`socket::Reader`). In: the bytes of an answer as they are handed over. Out: a wait, while more of them than the worker's
//! room allows are still in this process; or the failure of a client that reads nothing for too long. The waiting bytes hold
//! their part of the room. The kernel holds some more for each socket, within the bounds that sockets get when they are made.

use aigw_core::request::ClientConnection;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use aigw_core::accept::room::{Claim, Room};
use aigw_core::settle::Failure;
use tokio::time::Instant;

use crate::socket::{Look, Reader};

/// An answer of this length is not looked at: to find its socket costs more than to hold it.
const UNSEEN: u64 = 64 * 1024;
/// Bytes of the buffers between the upstream and a client that is behind: they hold their part of the room, too.
const BUFFERS: u64 = 32 * 1024;
/// The shortest interval at which a client that is behind is looked at again: the timer's own.
const OFTEN: Duration = Duration::from_millis(1);
/// The longest one.
const SELDOM: Duration = Duration::from_millis(128);

fn hold(claim: &mut Claim, look: Look) {
    claim.hold(if look.waiting > 0 { look.waiting + BUFFERS } else { 0 });
}

/// The pace of one answer.
pub(super) struct Pace {
    room: Arc<Room>,
    claim: Claim,
    client: Option<ClientConnection>,
    /// A client may read nothing for so long.
    unread: Duration,
    reader: Option<Reader>,
    /// Bytes handed over since the last look.
    unchecked: u64,
    /// The next interval: it follows the client, so that about one look in two finds it far enough.
    pause: Duration,
}

impl Pace {
    /// The pace of an answer to `client`. `claim`: of nothing yet.
    pub(super) fn new(room: Arc<Room>, claim: Claim, client: Option<ClientConnection>, unread: Duration) -> Self {
        Self { room, claim, client, unread, reader: None, unchecked: 0, pause: OFTEN }
    }

    /// Most bytes of the next piece.
    pub(super) fn piece(&self) -> usize {
        usize::try_from(self.room.ahead()).unwrap_or(usize::MAX)
    }

    /// Bytes are handed over next. `sent`: those before them. Finds the socket while few bytes can wait in the server.
    pub(super) fn before(&mut self, sent: u64, length: usize) {
        self.unchecked += length as u64;
        if self.reader.is_none() && sent + length as u64 > UNSEEN {
            self.reader = self.client.and_then(|client| Reader::find(client, sent));
        }
    }

    /// Waits until few bytes wait for the client; gives up when it reads nothing for as long as it may. `sent`: all bytes. `behind`:
    /// when the client last took bytes, while it is waited for, also of a wait that is given up from outside.
    pub(super) async fn keep(&mut self, sent: u64, behind: &Cell<Option<Instant>>) -> Result<(), Failure> {
        if self.unchecked <= self.room.ahead() / 4 {
            return Ok(());
        }
        self.unchecked = 0;
        let Some(reader) = &mut self.reader else { return Ok(()) };
        // The pushed bytes must reach the socket before they are measured.
        tokio::task::yield_now().await;
        let mut last = reader.look(sent);
        hold(&mut self.claim, last);
        let mut since = Instant::now();
        while last.waiting > self.room.ahead() {
            behind.set(Some(since));
            tokio::time::sleep(self.pause).await;
            let now = reader.look(sent);
            if now.read > last.read || now.waiting < last.waiting {
                since = Instant::now();
            } else if since.elapsed() > self.unread {
                return Err(Failure::ClientStalled);
            }
            last = now;
            hold(&mut self.claim, last);
            let far = last.waiting > self.room.ahead();
            self.pause = if far { (self.pause * 2).min(SELDOM) } else { (self.pause / 2).max(OFTEN) };
        }
        behind.set(None);
        Ok(())
    }
}
