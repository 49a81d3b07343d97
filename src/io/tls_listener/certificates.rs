//! The certificates of the TLS address, ready for handshakes.
//!
//! In: a policy's certificates with sealed keys, and the pair of the process settings. Out: for a client's greeting the configuration of
//! its handshake, or the alert that ends it. A pair that cannot be used is left out and reported once. An unchanged pair is not
//! parsed again, and an unchanged set keeps the sessions that clients may resume; a session of a replaced set cannot be resumed.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aigw_core::r#match::ServerNames;
use aigw_core::snapshot::policy::{CertificatePair, Policy};
use ring::digest::{SHA256, digest};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::pem::certified;

/// The alert `handshake_failure` (RFC 8446, 6.2): no pair of the name's certificate has a kind of key that the client can verify.
const HANDSHAKE_FAILURE: u8 = 40;
/// The alert `unrecognized_name` (RFC 6066, 3): there is no certificate for the name.
const UNRECOGNIZED_NAME: u8 = 112;

/// The certificates in force.
#[derive(Debug)]
pub struct Certificates {
    table: Arc<Table>,
    config: Arc<ServerConfig>,
}

/// A pair that cannot be used: its place in the policy, and the reason. Neither holds a byte of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// `certificates[2].pairs[0]`
    pub at: String,
    /// The reason.
    pub why: String,
}

/// SHA-256 of a chain and its sealed key.
type Mark = [u8; 32];

#[derive(Default)]
struct Table {
    names: ServerNames,
    /// By the index that the names lead to; pairs by their marks.
    certificates: Vec<Box<[Mark]>>,
    /// `None`: the pair cannot be used.
    keys: HashMap<Mark, Option<Arc<CertifiedKey>>>,
    /// The pair of the settings.
    default: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    /// No certificate at all. Fails if this build of rustls lacks a version of TLS.
    pub fn none() -> Result<Self, String> {
        Self::of(Table::default())
    }

    /// These certificates with those of `policy` in place of its own, and pairs that cannot be used. `None`: nothing changes.
    pub fn with_policy(
        &self,
        policy: &Policy,
        unseal: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<(Option<Self>, Vec<Unusable>), String> {
        let marks = |pairs: &[CertificatePair]| pairs.iter().map(mark).collect::<Box<[Mark]>>();
        let certificates: Vec<_> = policy.certificates.iter().map(|one| marks(&one.pairs)).collect();
        if certificates == self.table.certificates && policy.server_names == self.table.names {
            return Ok((None, Vec::new()));
        }
        let (mut keys, mut unusable) = (HashMap::new(), Vec::new());
        for (at, certificate) in policy.certificates.iter().enumerate() {
            for (n, pair) in certificate.pairs.iter().enumerate() {
                let mark = certificates[at][n];
                let made = self.table.keys.get(&mark).cloned().unwrap_or_else(|| {
                    let made = unseal(&pair.key).ok_or_else(|| "its key was sealed with another secret".to_owned());
                    let made = made.and_then(|key| certified(pair.chain.as_bytes(), &key)).map(Arc::new);
                    made.map_err(|why| unusable.push(Unusable { at: format!("certificates[{at}].pairs[{n}]"), why }))
                        .ok()
                });
                keys.insert(mark, made);
            }
        }
        let (names, default) = (policy.server_names.clone(), self.table.default.clone());
        Ok((Some(Self::of(Table { names, certificates, keys, default })?), unusable))
    }

    /// These certificates with another pair for clients whose name no other certificate serves. `pem`: chain and key.
    pub fn with_default(&self, pem: &[u8]) -> Result<Self, String> {
        let Table { names, certificates, keys, default: _ } = &*self.table;
        let default = Some(Arc::new(certified(pem, pem)?));
        Self::of(Table { names: names.clone(), certificates: certificates.clone(), keys: keys.clone(), default })
    }

    /// The configuration of a client's handshake, or the alert that ends it.
    pub(super) fn answer(&self, hello: &ClientHello<'_>) -> Result<Arc<ServerConfig>, u8> {
        match self.table.pairs(hello.server_name()) {
            pairs if pairs.is_empty() => Err(UNRECOGNIZED_NAME),
            pairs if chosen(&pairs, hello).is_none() => Err(HANDSHAKE_FAILURE),
            _ => Ok(Arc::clone(&self.config)),
        }
    }

    fn of(table: Table) -> Result<Self, String> {
        let table = Arc::new(table);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&table) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { table, config: Arc::new(config) })
    }
}

impl Table {
    /// The pairs of the best certificate for this name that has one.
    fn pairs(&self, name: Option<&str>) -> Vec<&Arc<CertifiedKey>> {
        let usable = |at: usize| -> Vec<_> {
            let marks = self.certificates.get(at).into_iter().flatten();
            marks.filter_map(|mark| self.keys.get(mark)?.as_ref()).collect()
        };
        let best = self.names.find(name).map(usable).find(|pairs| !pairs.is_empty());
        best.unwrap_or_else(|| self.default.iter().collect())
    }
}

impl ResolvesServerCert for Table {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        chosen(&self.pairs(hello.server_name()), &hello).cloned()
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("certificates", &self.certificates.len()).finish_non_exhaustive()
    }
}

/// The pair that can sign by the client's most wanted scheme, as OpenSSL chooses.
fn chosen<'a>(pairs: &[&'a Arc<CertifiedKey>], hello: &ClientHello<'_>) -> Option<&'a Arc<CertifiedKey>> {
    let signs = |scheme| pairs.iter().find(|pair| pair.key.choose_scheme(&[scheme]).is_some());
    hello.signature_schemes().iter().find_map(|scheme| signs(*scheme)).copied()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn mark(pair: &CertificatePair) -> Mark {
    let text = [pair.chain.as_bytes(), b"\0", pair.key.as_bytes()].concat();
    digest(&SHA256, &text).as_ref().try_into().unwrap_or_default()
}
