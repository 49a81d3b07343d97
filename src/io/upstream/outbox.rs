//! The outbox of one call: its events on their way to the caller, all calls' events in one batch.
//!
//! In: events in order. Out: batches of (ticket, event). The ticket sees each event first, for it may change heads and
//! pieces. Invariant: nothing follows a call's last event.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::event::Event;
use super::ticket::Ticket;

/// Events that are ready together: ticket and event, in order per ticket. The ticket is given up with its last event.
pub type Batch<T> = Vec<(Rc<T>, Event)>;

/// The events of all calls that wait to be delivered.
pub(super) struct Ready<T> {
    batch: RefCell<Batch<T>>,
    bell: Notify,
    rung: Cell<bool>,
}

impl<T> Ready<T> {
    pub(super) fn new() -> Self {
        Self { batch: RefCell::default(), bell: Notify::new(), rung: Cell::new(false) }
    }

    /// Wait for events, and take them all.
    pub(super) async fn next(&self) -> Batch<T> {
        self.bell.notified().await;
        self.rung.set(false);
        self.batch.take()
    }

    fn add(&self, ticket: &Rc<T>, event: Event) {
        self.batch.borrow_mut().push((Rc::clone(ticket), event));
        if !self.rung.replace(true) {
            self.bell.notify_one();
        }
    }
}

/// The events of one call.
pub(super) struct Outbox<T> {
    ready: Rc<Ready<T>>,
    ticket: Rc<T>,
    over: Cell<bool>,
    /// Bytes of the answer's body handed over; `None` before its head was.
    sent: Cell<Option<u64>>,
}

impl<T: Ticket> Outbox<T> {
    pub(super) fn new(ready: Rc<Ready<T>>, ticket: T) -> Self {
        Self { ready, ticket: Rc::new(ticket), over: Cell::new(false), sent: Cell::new(None) }
    }

    pub(super) fn ticket(&self) -> &T {
        &self.ticket
    }

    /// Whether the last event was handed over.
    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Bytes of the answer's body handed over; `None` before its head was.
    pub(super) fn sent(&self) -> Option<u64> {
        self.sent.get()
    }

    /// Hand over an event; what the ticket has to say of it first.
    pub(super) fn push(&self, event: Event) {
        match event {
            Event::Full { status, mut headers, body } => {
                self.ticket.head(status, &mut headers);
                let body = self.ticket.piece(body);
                let rest = self.ticket.rest();
                let body = if rest.is_empty() { body } else { [body, rest].concat().into() };
                self.hand_over(Event::Full { status, headers, body });
            }
            Event::Head { status, mut headers } => {
                self.ticket.head(status, &mut headers);
                self.sent.set(Some(0));
                self.hand_over(Event::Head { status, headers });
            }
            Event::Chunk(piece) => self.chunk(self.ticket.piece(piece)),
            Event::End => {
                self.chunk(self.ticket.rest());
                self.hand_over(Event::End);
            }
            Event::Failed(_) => self.hand_over(event),
        }
    }

    /// Hand over a piece of the body as it is.
    pub(super) fn chunk(&self, piece: Bytes) {
        if !piece.is_empty() {
            self.sent.set(self.sent.get().map(|sent| sent + piece.len() as u64));
            self.hand_over(Event::Chunk(piece));
        }
    }

    fn hand_over(&self, event: Event) {
        if event.is_last() {
            self.over.set(true);
        }
        self.ready.add(&self.ticket, event);
    }
}
