//! The faults of the mock model server, and the share of requests that meet them.
//!
//! In: `refuse|hang|reset|garbage|cut` or a status (`429`, `503`), with an optional `:ratio` (0 to 1), as on the command line.
//! With a ratio below 1 each connection carries one request, so the share of spoilt connections is the share of spoilt
//! requests. The share is spread evenly and without chance, so a test can count on it. Requests for the counters are never
//! spoilt; a port that refuses every connection does not serve them.

use std::io;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::stats::STATS_PATH;

/// One way to fail a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No listener (all), or a reset before a byte was read (a share).
    Refuse,
    /// The request is read and never answered.
    Hang,
    /// The request arrives and the connection is reset.
    Reset,
    /// The answer is not HTTP.
    Garbage,
    /// The answer breaks off in the middle.
    Cut,
    /// A whole answer with this status, in OpenAI's form.
    Status(StatusCode),
}

/// A fault and the share of requests that meet it.
#[derive(Debug)]
pub struct Faults {
    fault: Fault,
    /// Millionths of all requests.
    share: u64,
    seen: AtomicU64,
}

const WHOLE: u64 = 1_000_000;

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, ratio) = text.split_once(':').unwrap_or((text, "1"));
        let fault = match name {
            "refuse" => Fault::Refuse,
            "hang" => Fault::Hang,
            "reset" => Fault::Reset,
            "garbage" => Fault::Garbage,
            "cut" => Fault::Cut,
            _ => {
                let status = name.parse().ok().filter(|status: &StatusCode| status.as_u16() >= 400);
                let unknown = || {
                    format!(
                        "unknown fault {name:?}: use refuse, hang, reset or garbage, cut or a status, e.g. reset:0.1"
                    )
                };
                Fault::Status(status.ok_or_else(unknown)?)
            }
        };
        let ratio: f64 = ratio
            .parse()
            .ok()
            .filter(|r| (0.0..=1.0).contains(r))
            .ok_or_else(|| format!("the ratio of a fault is a number from 0 to 1, not {ratio:?}"))?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let share = (ratio * WHOLE as f64).round() as u64; // 0..=1,000,000 by the check above
        Ok(Self { fault, share, seen: AtomicU64::new(0) })
    }
}

impl Faults {
    /// Every request fails.
    pub fn is_total(&self) -> bool {
        self.share == WHOLE
    }

    /// Nothing listens at all.
    pub fn refuse_all(&self) -> bool {
        self.is_total() && self.fault == Fault::Refuse
    }

    /// The fault of this request's answer, if it has one.
    pub fn for_answer(&self) -> Option<Fault> {
        (self.in_answer() && self.next()).then_some(self.fault)
    }

    /// Whether the fault spoils answers, not connections.
    fn in_answer(&self) -> bool {
        matches!(self.fault, Fault::Cut | Fault::Status(_))
    }

    /// The fault of this new connection, if it has one. Waits for the first bytes and leaves them unread.
    pub async fn for_connection(&self, stream: &TcpStream) -> Option<Fault> {
        if self.in_answer() {
            return None;
        }
        let mut head = [0; 64];
        let read = stream.peek(&mut head).await.unwrap_or(0);
        let wanted = [b"GET ", STATS_PATH.as_bytes()].concat();
        if head.get(..read).is_some_and(|head| head.starts_with(&wanted)) {
            return None;
        }
        self.next().then_some(self.fault)
    }

    /// Whether the next request fails: request n does when the running share passes a whole number.
    fn next(&self) -> bool {
        let n = self.seen.fetch_add(1, Ordering::Relaxed);
        (n + 1) * self.share / WHOLE > n * self.share / WHOLE
    }
}

impl Fault {
    /// Spoil `stream`; returns when the connection is over.
    pub async fn commit(self, mut stream: TcpStream) {
        // The client may leave first; that ends the fault, too.
        let _: io::Result<()> = async {
            match self {
                Fault::Refuse => stream.set_zero_linger()?,
                Fault::Hang => while stream.read(&mut [0; 4096]).await? > 0 {},
                Fault::Reset => {
                    stream.read_u8().await?;
                    stream.set_zero_linger()?;
                }
                Fault::Garbage => {
                    stream.read_u8().await?;
                    stream.write_all(b"\x16\x03\x01 this is not HTTP\r\n\r\n").await?;
                }
                Fault::Cut | Fault::Status(_) => {}
            }
            Ok(())
        }
        .await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn share_is_spread_evenly() {
        let faults: Faults = "reset:0.25".parse().unwrap();
        let spoilt: Vec<bool> = (0..8).map(|_| faults.next()).collect();
        assert_eq!(spoilt, [false, false, false, true, false, false, false, true]);
    }

    #[test]
    fn fault_without_ratio_spoils_all() {
        let faults: Faults = "hang".parse().unwrap();
        assert!(faults.is_total() && (0..10).all(|_| faults.next()));
        assert!("refuse".parse::<Faults>().unwrap().refuse_all());
    }

    #[test]
    fn parse_refuses_nonsense() {
        assert!("explode".parse::<Faults>().unwrap_err().contains("refuse, hang, reset or garbage"));
        assert!("hang:2".parse::<Faults>().unwrap_err().contains("from 0 to 1"));
        assert!("hang:NaN".parse::<Faults>().is_err());
        assert!("200".parse::<Faults>().is_err());
    }

    #[test]
    fn status_spoils_answers() {
        let faults: Faults = "503:0.5".parse().unwrap();
        let spoilt: Vec<_> = (0..4).map(|_| faults.for_answer()).collect();
        assert_eq!(spoilt, [None, Some(Fault::Status(StatusCode::SERVICE_UNAVAILABLE))].repeat(2));
        assert_eq!("hang".parse::<Faults>().unwrap().for_answer(), None);
    }
}
