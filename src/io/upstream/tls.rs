//! TLS towards upstreams: rustls with ring; trusted are the system's roots, or those of the upstream's own settings.
//!
//! In: an origin. Out: its connector. The system's roots are loaded when the first upstream needs them; `SSL_CERT_FILE` and
//! `SSL_CERT_DIR` name others. A root that cannot be read is told once, and the others are used.

use aigw_core::balance::{ConnectFault, Origin, TlsSettings};
use rustls::client::WantsClientCert;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ConfigBuilder};
use std::cell::{OnceCell, RefCell};
use std::collections::HashSet;
use std::sync::Arc;
use tokio_rustls::TlsConnector;

use super::fault::{Fault, Tell};
use super::notice::Notice;
use super::verify::{Roots, Unchecked};
use crate::pem::{authorities, certified};

/// The parts that the connectors of all origins share.
#[derive(Default)]
pub(super) struct Tls {
    roots: OnceCell<Roots>,
    checked: OnceCell<TlsConnector>,
    unchecked: OnceCell<TlsConnector>,
    /// Faults of roots that were told.
    told: RefCell<HashSet<String>>,
}

impl Tls {
    /// The connector of this origin. The pool keeps it: it is made again for other settings only.
    pub(super) fn connector(&self, origin: &Origin, tell: &Tell) -> Result<TlsConnector, Fault> {
        if let Some(settings) = &origin.settings {
            return self.make(origin.verify, Some(settings), tell);
        }
        let cell = if origin.verify { &self.checked } else { &self.unchecked };
        if let Some(made) = cell.get() {
            return Ok(made.clone());
        }
        let made = self.make(origin.verify, None, tell)?;
        Ok(cell.get_or_init(|| made).clone())
    }

    fn make(&self, verify: bool, settings: Option<&TlsSettings>, tell: &Tell) -> Result<TlsConnector, Fault> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(wrong)?;
        let builder = if verify {
            let own = settings.filter(|settings| !settings.ca.is_empty());
            let roots = own.map_or_else(|| self.roots(tell), |settings| own_roots(&settings.ca))?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(roots.verifier(provider).map_err(wrong)?))
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
        };
        let mut config = match settings.filter(|settings| !settings.cert.is_empty()) {
            None => builder.with_no_client_auth(),
            Some(settings) => with_certificate(builder, settings)?,
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }

    /// The roots of the system, or those that the environment names. A store without a root is not kept: it may be repaired.
    fn roots(&self, tell: &Tell) -> Result<Roots, Fault> {
        if let Some(roots) = self.roots.get() {
            return Ok(roots.clone());
        }
        let found = rustls_native_certs::load_native_certs();
        let (roots, unread) = Roots::readable(found.certs);
        let mut wrong: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        if unread > 0 && roots.is_empty() {
            wrong.push(format!("{unread} certificates cannot be read"));
        }
        for error in &wrong {
            if self.told.borrow_mut().insert(error.clone()) {
                tell(Notice::Roots { error: error.clone() });
            }
        }
        if roots.is_empty() {
            let why = wrong.first().map_or("no certificate was found", String::as_str);
            let text = format!("there is no trusted certificate ({why}): set SSL_CERT_FILE, or tls_ca of the upstream");
            return Err(Fault::new(ConnectFault::Tls, text));
        }
        Ok(self.roots.get_or_init(|| roots).clone())
    }
}

/// The roots of an upstream's own settings.
fn own_roots(pem: &[u8]) -> Result<Roots, Fault> {
    let certificates = authorities(pem).map_err(|error| wrong(format!("tls_ca: {error}")))?;
    Ok(Roots::readable(certificates).0)
}

fn with_certificate(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    settings: &TlsSettings,
) -> Result<ClientConfig, Fault> {
    let made = certified(&settings.cert, &settings.key);
    let made = made.map_err(|error| wrong(format!("the gateway's own certificate: {error}")))?;
    Ok(builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(made))))
}

fn wrong(error: impl std::fmt::Display) -> Fault {
    Fault::new(ConnectFault::Tls, error.to_string())
}
