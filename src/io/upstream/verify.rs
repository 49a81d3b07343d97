//! The checks of an upstream's certificate.
//!
//! In: trusted certificates. Out: a verifier. A trusted certificate may be the upstream's own, too: `openssl req -x509` makes one that
//! is its own authority, which the library refuses as an upstream's even where it is trusted. Then name and dates are checked.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::collections::HashSet;
use std::sync::Arc;

/// Trusted certificates.
#[derive(Clone)]
pub(super) struct Roots {
    store: Arc<RootCertStore>,
    /// The SHA-256 of each.
    digests: Arc<HashSet<Vec<u8>>>,
}

impl Roots {
    /// The certificates that can be read, and the count of the others: one of them must not take the others with it.
    pub(super) fn readable(certificates: Vec<CertificateDer<'static>>) -> (Self, usize) {
        let mut store = RootCertStore::empty();
        let digests = certificates.iter().map(|certificate| digest(certificate)).collect();
        let (_, unread) = store.add_parsable_certificates(certificates);
        (Self { store: Arc::new(store), digests: Arc::new(digests) }, unread)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.store.is_empty()
    }

    /// The verifier that trusts these.
    pub(super) fn verifier(self, provider: Arc<CryptoProvider>) -> Result<Verifier, VerifierBuilderError> {
        let chain = WebPkiServerVerifier::builder_with_provider(self.store, provider).build()?;
        Ok(Verifier { chain, digests: self.digests })
    }
}

/// Accepts a certificate that a trusted one has signed, or a trusted one itself.
#[derive(Debug)]
pub(super) struct Verifier {
    chain: Arc<WebPkiServerVerifier>,
    digests: Arc<HashSet<Vec<u8>>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let error = match self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Ok(verified) => return Ok(verified),
            Err(error) => error,
        };
        if !is_authority(&error) {
            return Err(error);
        }
        // The library checks the dates before this error arises, and the name after it.
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        if self.digests.contains(&digest(end_entity)) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::UnknownIssuer.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// The upstream's certificate is one of an authority, and valid so far.
fn is_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    other.0.downcast_ref::<webpki::Error>() == Some(&webpki::Error::CaUsedAsEndEntity)
}

fn digest(certificate: &CertificateDer<'_>) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, certificate).as_ref().to_vec()
}

/// Accepts any certificate: only for services that say `tls_verify: false`.
#[derive(Debug)]
pub(super) struct Unchecked(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
