//! Finds connections whose client does nothing: heads that began and do not end, and connections without a request.
//!
//! In: the flows of all connections, about once a second. Out: the clients whose time is up. The server has one timer for the wait
//! before a head and for the head itself, so it can either keep connections or bound slow heads. The kernel knows when bytes
//! came and when an answer was sent: a connection whose last bytes came after the last answer has begun a head, unless a
//! request of it is in flight, which the caller knows. It ends nothing itself.

use aigw_core::request::ClientConnection;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::socket::Flow;

/// A head must be whole this long after its first byte.
pub const HEAD: Duration = Duration::from_secs(10);
/// A client may take nothing of the end of an answer for this long. Until then the answer's own call waits for it.
pub const UNREAD: Duration = Duration::from_mins(1);
/// The interval of looks.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// The connections of one worker, as the last look saw them.
#[derive(Debug)]
pub struct Idle {
    /// A connection may do nothing for this long.
    most: Duration,
    seen: HashMap<ClientConnection, Seen>,
}

/// A connection whose time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue {
    /// Its client.
    pub client: ClientConnection,
    /// The act that it owes.
    pub lacks: Lacks,
}

/// An act of a client that is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacks {
    /// The head of a request began and did not end.
    Head,
    /// No request came.
    Request,
    /// The client took nothing of an answer that is sent.
    Reading,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    state: State,
    since: Instant,
}

/// The state of a connection. A change of the state starts its time again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Bytes of an answer wait for the client.
    Sending { acked: u64 },
    /// Bytes came, and nothing was sent since. The bytes that were acknowledged by then tell an answer in between.
    Receiving { acked: u64 },
    /// An answer was sent, or nothing came yet.
    Waiting { received: u64, acked: u64 },
}

impl Idle {
    /// Connections may be without a request for `most`.
    #[must_use]
    pub fn new(most: Duration) -> Self {
        Self { most, seen: HashMap::new() }
    }

    /// Takes the flows of all connections at `now`; returns those whose time is up, unless a request of theirs is in flight.
    pub fn look(&mut self, flows: &[Flow], now: Instant) -> Vec<Overdue> {
        let mut overdue = Vec::new();
        let mut seen = HashMap::with_capacity(flows.len());
        for flow in flows {
            let state = State::of(flow);
            let before = self.seen.get(&flow.client).filter(|seen| seen.state == state);
            let since = before.map_or(now, |seen| seen.since);
            let (lacks, most) = match state {
                State::Sending { .. } => (Lacks::Reading, UNREAD),
                State::Receiving { .. } => (Lacks::Head, HEAD),
                State::Waiting { .. } => (Lacks::Request, self.most),
            };
            if now.saturating_duration_since(since) >= most {
                overdue.push(Overdue { client: flow.client, lacks });
            }
            seen.insert(flow.client, Seen { state, since });
        }
        self.seen = seen;
        overdue
    }
}

impl State {
    fn of(flow: &Flow) -> Self {
        if flow.sending {
            Self::Sending { acked: flow.acked }
        } else if flow.received > 0 && (!flow.answered || flow.quiet < flow.unanswered) {
            Self::Receiving { acked: flow.acked }
        } else {
            Self::Waiting { received: flow.received, acked: flow.acked }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(80);

    fn flow(received: u64, acked: u64, quiet: u64, unanswered: u64) -> Flow {
        let (quiet, unanswered) = (Duration::from_millis(quiet), Duration::from_millis(unanswered));
        Flow {
            client: ClientConnection::new(([127, 0, 0, 1], 9).into(), aigw_core::request::Listens::Plain),
            received,
            acked,
            quiet,
            unanswered,
            answered: acked > 0,
            sending: false,
        }
    }

    /// The second at which a connection with these flows, one for each second, is overdue, and the act that it owes.
    fn overdue_at(flows: impl Iterator<Item = Flow>) -> Option<(usize, Lacks)> {
        let (mut idle, began) = (Idle::new(MOST), Instant::now());
        flows.enumerate().find_map(|(second, flow)| {
            let now = began + Duration::from_secs(second as u64);
            idle.look(&[flow], now).first().map(|overdue| (second, overdue.lacks))
        })
    }

    #[test]
    fn head_that_drips_is_overdue_after_its_bound() {
        assert_eq!(
            overdue_at((0..200).map(|second| flow(10 + second, 5, 100, 1000 * second + 500))),
            Some((10, Lacks::Head))
        );
    }

    #[test]
    fn head_that_stopped_is_overdue_after_its_bound() {
        assert_eq!(
            overdue_at((0..200).map(|second| flow(10, 5, 1000 * second, 1000 * second + 500))),
            Some((10, Lacks::Head))
        );
    }

    #[test]
    fn first_head_is_bounded_though_its_bytes_came_with_the_handshake() {
        assert_eq!(
            overdue_at((0..200).map(|second| flow(10, 0, 1000 * second, 1000 * second))),
            Some((10, Lacks::Head))
        );
    }

    #[test]
    fn answered_connection_is_kept_for_its_time() {
        assert_eq!(
            overdue_at((0..200).map(|second| flow(10, 5, 1000 * second + 500, 1000 * second))),
            Some((80, Lacks::Request))
        );
        assert_eq!(
            overdue_at((0..200).map(|second| flow(0, 0, 1000 * second, 1000 * second))),
            Some((80, Lacks::Request))
        );
    }

    #[test]
    fn client_that_reads_slowly_is_not_idle() {
        // It takes some bytes each minute but one second.
        let slow = |second: u64| Flow {
            sending: second < 150,
            ..flow(10, 5 + second.min(150) / 59, 1000 * second + 500, 1000 * second)
        };
        assert_eq!(overdue_at((0..300).map(slow)), Some((230, Lacks::Request)));
    }

    #[test]
    fn client_that_takes_nothing_of_an_answer_is_overdue() {
        let stalled = |second: u64| Flow { sending: true, ..flow(10, 5, 1000 * second + 500, 1000 * second) };
        assert_eq!(overdue_at((0..200).map(stalled)), Some((60, Lacks::Reading)));
    }

    #[test]
    fn busy_connection_is_never_overdue() {
        // A request each second: its answer is acknowledged by the next look.
        assert_eq!(overdue_at((0..200).map(|second| flow(10 * second + 1, 5 * second, 100, 50))), None);
        // A stream of answers, and bytes of the next request behind it.
        assert_eq!(overdue_at((0..200).map(|second| flow(20, 5 * second, 100, 500))), None);
    }
}
