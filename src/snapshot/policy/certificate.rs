//! The certificates that the gateway shows to its clients, each for the server names that it serves.
//!
//! In: the policy's list. Out: chains and sealed keys, and the [`ServerNames`] that choose among them. Nothing is parsed here: a pair
//! that cannot be used is left out by the TLS listener, so it never keeps a policy from being loaded.

use super::checks::value;
use super::wire;
use crate::r#match::ServerNames;
use crate::snapshot::error::{Part, SnapshotError};

/// One certificate, in one or two kinds of key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// In the order of the policy; a client gets the first that it can verify.
    pub pairs: Box<[CertificatePair]>,
}

/// A chain and the key of its first certificate.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CertificatePair {
    /// PEM, the server's own certificate first.
    pub chain: Box<str>,
    /// The PEM of the key, sealed.
    pub key: Box<str>,
}

impl std::fmt::Debug for CertificatePair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CertificatePair(..)")
    }
}

/// The certificates and their names. A name belongs to one certificate.
pub(super) fn certificates(from: Vec<wire::Certificate>) -> Result<(Vec<Certificate>, ServerNames), SnapshotError> {
    let mut names = ServerNames::default();
    let mut certificates = Vec::with_capacity(from.len());
    for (index, wire::Certificate { names: own, pairs }) in from.into_iter().enumerate() {
        let at = Part::Item("certificates", index);
        if pairs.is_empty() {
            return Err(value(at, "a certificate has at least one pair of chain and key"));
        }
        for name in own {
            names.add(&name, index).map_err(|error| value(at, &error.to_string()))?;
        }
        let pair = |wire::CertificatePair { chain, key }| CertificatePair { chain: chain.into(), key: key.into() };
        certificates.push(Certificate { pairs: pairs.into_iter().map(pair).collect() });
    }
    Ok((certificates, names))
}
