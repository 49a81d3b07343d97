//! The TLS address of a worker: chooses a certificate by server name at each handshake, and carries the decrypted bytes to the worker's own
//! server, which speaks no TLS.
//!
//! In: a listening socket, the loopback address of the worker's server, a [`Host`] with the certificates in force. Out: connections of
//! clients, each carried over one to that address, with its client noted in [`Carried`] before its first byte. `certificates` chooses,
//! `accept` bounds connections and handshakes, `relay` carries bytes, `carried` knows the clients. It runs on a thread of its own and
//! reads no request.

mod accept;
mod carried;
mod certificates;
mod relay;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use aigw_core::telemetry::handshakes::Handshake;

pub use accept::{Listener, Stop};
pub use carried::Carried;
pub use certificates::{Certificates, Unusable};

/// The worker, as its TLS address sees it.
pub trait Host: Send + Sync + 'static {
    /// The certificates in force: those of the generation that is published now.
    fn certificates(&self) -> Arc<Certificates>;

    /// The count of open connections, those in their handshake too.
    fn connections(&self) -> &AtomicU64;

    /// Counts the result of a handshake.
    fn handshake(&self, result: Handshake);

    /// Counts a fault that was caught.
    fn panicked(&self);
}
