//! The addresses of one upstream's name: asked for before the first connection, then again every few seconds in the background,
//! so that no call waits for a resolver once there was an answer.
//!
//! In: a host, and a [`Lookup`] (the system's resolver on a blocking thread; another one in tests). Out: the addresses of the last
//! answer, and whose turn it is. A resolver that fails leaves the answer before in force. Literal addresses are never asked for.
//! An address that no upstream may have ([`Reach`]) is left out of each answer, so no connection to it is ever tried.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use aigw_core::balance::Reach;
use tokio::time::Instant;

/// Age at which an answer is asked for again. Connections to an address that left its name must end within 10 s.
const AGE: Duration = Duration::from_secs(3);

/// An answer on its way.
pub(super) type Answer = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>>>>;

/// Finds the addresses of a host.
pub(super) trait Lookup {
    /// Asks for the addresses of `host`, with this port.
    fn addresses(&self, host: &str, port: u16) -> Answer;
}

/// The system's resolver.
pub(super) struct System;

impl Lookup for System {
    fn addresses(&self, host: &str, port: u16) -> Answer {
        let host = host.to_owned();
        Box::pin(async move { Ok(tokio::net::lookup_host((host.as_str(), port)).await?.collect()) })
    }
}

/// The addresses of one host.
pub(super) struct Addresses {
    host: String,
    port: u16,
    literal: bool,
    /// `None` for a proxy: the operator's own environment names it.
    reach: Option<Rc<Reach>>,
    /// The addresses that `reach` took from the last answer, in words, until they are told.
    barred: Cell<Option<String>>,
    known: RefCell<Rc<[SocketAddr]>>,
    asked: Cell<Option<Instant>>,
    asking: Cell<bool>,
    turn: Cell<usize>,
}

/// The result of asking again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refreshed {
    /// The same addresses.
    Same,
    /// Other addresses: those that are gone must not be used any more.
    Changed,
    /// No answer: the addresses before stay.
    Failed(String),
}

impl Addresses {
    pub(super) fn new(host: &str, port: u16, reach: Option<Rc<Reach>>) -> Self {
        let literal = host.parse::<IpAddr>().ok();
        let addresses = Self {
            host: host.to_owned(),
            port,
            literal: literal.is_some(),
            reach,
            barred: Cell::new(None),
            known: RefCell::new(Rc::new([])),
            asked: Cell::new(None),
            asking: Cell::new(false),
            turn: Cell::new(0),
        };
        if let Some(ip) = literal {
            addresses.take(vec![SocketAddr::new(ip, port)]);
        }
        addresses
    }

    /// The addresses of the last answer; none before the first.
    pub(super) fn known(&self) -> Rc<[SocketAddr]> {
        Rc::clone(&self.known.borrow())
    }

    /// Whether there is at most one address.
    pub(super) fn is_single(&self) -> bool {
        self.known.borrow().len() < 2
    }

    /// Whether the last answer has this address.
    pub(super) fn has(&self, address: SocketAddr) -> bool {
        self.known.borrow().contains(&address)
    }

    /// The forbidden addresses of the last answer, each with its reason. Once for each answer.
    pub(super) fn take_barred(&self) -> Option<String> {
        self.barred.take()
    }

    /// The index whose turn it is, among `count`; the next call gets the next one.
    pub(super) fn turn(&self, count: usize) -> usize {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        turn % count.max(1)
    }

    /// The addresses; asks for them when there was no answer yet. `Err`: the resolver's error.
    pub(super) async fn find(&self, lookup: &dyn Lookup) -> io::Result<Rc<[SocketAddr]>> {
        if self.known.borrow().is_empty() {
            let found = lookup.addresses(&self.host, self.port).await?;
            self.take(found);
        }
        Ok(self.known())
    }

    /// Whether the last answer is old enough to ask again, and nobody is asking.
    pub(super) fn is_due(&self) -> bool {
        !self.literal && !self.asking.get() && self.asked.get().is_none_or(|asked| asked.elapsed() >= AGE)
    }

    /// Asks again.
    pub(super) async fn refresh(&self, lookup: &dyn Lookup) -> Refreshed {
        self.asking.set(true);
        self.asked.set(Some(Instant::now()));
        let answer = lookup.addresses(&self.host, self.port).await;
        self.asking.set(false);
        match answer {
            Ok(found) if found.is_empty() => Refreshed::Failed("the name has no address".into()),
            Ok(found) => self.take(found),
            Err(error) => Refreshed::Failed(error.to_string()),
        }
    }

    fn take(&self, mut found: Vec<SocketAddr>) -> Refreshed {
        // A resolver may turn its answer at each question: the turns are counted here.
        let mut seen = std::collections::HashSet::new();
        found.retain(|address| seen.insert(*address));
        self.bar(&mut found);
        self.asked.set(Some(Instant::now()));
        let mut known = self.known.borrow_mut();
        let same = known.len() == found.len() && found.iter().all(|address| known.contains(address));
        if same {
            return Refreshed::Same;
        }
        *known = found.into();
        Refreshed::Changed
    }

    /// Takes the addresses out that no upstream may have.
    fn bar(&self, found: &mut Vec<SocketAddr>) {
        let Some(reach) = &self.reach else { return };
        let mut barred = Vec::new();
        found.retain(|address| match reach.forbids(address.ip()) {
            None => true,
            Some(why) => {
                barred.push(format!("{} ({})", address.ip(), why.name()));
                false
            }
        });
        self.barred.set((!barred.is_empty()).then(|| barred.join(", ")));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;

    /// A resolver whose answer a test sets.
    pub(in crate::upstream) struct Fake(pub(in crate::upstream) RefCell<Result<Vec<SocketAddr>, String>>);

    impl Fake {
        pub(in crate::upstream) fn new(addresses: &[SocketAddr]) -> Self {
            Self(RefCell::new(Ok(addresses.to_vec())))
        }
    }

    impl Lookup for Fake {
        fn addresses(&self, _: &str, _: u16) -> Answer {
            let answer = self.0.borrow().clone().map_err(io::Error::other);
            Box::pin(async move { answer })
        }
    }

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 80))
    }

    #[tokio::test]
    async fn failing_resolver_leaves_last_answer() {
        let (fake, addresses) = (Fake::new(&[at(1), at(2), at(1)]), Addresses::new("two.test", 80, None));
        assert_eq!(*addresses.find(&fake).await.unwrap(), [at(1), at(2)]);
        assert_eq!([0, 1, 0].map(|_| addresses.turn(2)), [0, 1, 0]);
        *fake.0.borrow_mut() = Ok(vec![at(2), at(1)]);
        assert_eq!(addresses.refresh(&fake).await, Refreshed::Same);
        for failed in [Err("no resolver".to_owned()), Ok(Vec::new())] {
            *fake.0.borrow_mut() = failed;
            assert!(matches!(addresses.refresh(&fake).await, Refreshed::Failed(_)));
            assert_eq!(*addresses.known(), [at(1), at(2)]);
        }
        *fake.0.borrow_mut() = Ok(vec![at(3)]);
        assert_eq!(addresses.refresh(&fake).await, Refreshed::Changed);
        assert!(addresses.has(at(3)) && !addresses.has(at(1)));
    }

    #[tokio::test]
    async fn literal_address_is_never_asked_for() {
        let addresses = Addresses::new("::1", 80, Some(Rc::default()));
        assert!(!addresses.is_due() && addresses.is_single());
        assert_eq!(addresses.find(&Fake::new(&[])).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn forbidden_address_is_left_out_of_each_answer() {
        let linked = SocketAddr::from(([169, 254, 169, 254], 80));
        let (fake, addresses) = (Fake::new(&[linked, at(1)]), Addresses::new("two.test", 80, Some(Rc::default())));
        assert_eq!(*addresses.find(&fake).await.unwrap(), [at(1)]);
        assert_eq!(addresses.take_barred().unwrap(), "169.254.169.254 (link-local)");
        assert_eq!(addresses.take_barred(), None);
        *fake.0.borrow_mut() = Ok(vec![linked]);
        assert_eq!(addresses.refresh(&fake).await, Refreshed::Changed);
        assert!(addresses.known().is_empty() && addresses.take_barred().is_some());
        let literal = Addresses::new("::ffff:169.254.169.254", 80, Some(Rc::default()));
        assert!(literal.find(&Fake::new(&[linked])).await.unwrap().is_empty());
        assert_eq!(Addresses::new("169.254.1.1", 80, None).known().len(), 1);
    }
}
