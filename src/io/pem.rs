//! Certificates and private keys in PEM form, for handshakes in either role.
//!
//! In: texts. Out: the kind of a key, a pair that handshakes can use, certificates that upstreams can be checked by, or the reason why
//! they cannot. Workers serve with these functions, and the control process judges by them what clients write. No reason holds a byte of
//! a key. A certificate of X.509 version 1 passes: the library does not read those, and nobody has to, in order to show one.

use rustls::crypto::ring::default_provider;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, InconsistentKeys, SignatureAlgorithm};

/// The kind of a text's first key: `rsa`, `ecdsa` or `ed25519`.
pub fn key_kind(pem: &[u8]) -> Result<&'static str, &'static str> {
    if pem.windows(9).any(|word| word == b"ENCRYPTED") {
        return Err("it is encrypted: send the key without a password");
    }
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| "there is no private key in PEM form")?;
    match any_supported_type(&key).map(|key| key.algorithm()) {
        Ok(SignatureAlgorithm::RSA) => Ok("rsa"),
        Ok(SignatureAlgorithm::ECDSA) => Ok("ecdsa"),
        Ok(SignatureAlgorithm::ED25519) => Ok("ed25519"),
        _ => Err("only RSA keys of 2048 to 8192 bits, ECDSA keys on P-256 or P-384 and Ed25519 keys are supported"),
    }
}

/// A chain and its key, checked against each other.
pub fn certified(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, String> {
    let chain = readable(chain)?;
    // The parser's error could repeat bytes of the key.
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|_| "its key is not a private key in PEM without a password")?;
    let key = default_provider().key_provider.load_private_key(key);
    let made = CertifiedKey::new(chain, key.map_err(|error| format!("its key cannot be used: {error}"))?);
    match made.keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err("its key is not that of the first certificate".to_owned())
        }
        // No public key to compare, or a certificate that is not read: `readable` has judged that.
        _ => Ok(made),
    }
}

/// The certificates of a chain whose first one can be shown. The others are not read: clients judge them.
pub fn readable(chain: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = certificates(chain)?;
    match chain.first().map(ParsedCertificate::try_from) {
        None => Err("there is no certificate in PEM form".to_owned()),
        Some(Err(Error::InvalidCertificate(error)))
            if cause(&error) != Some(&webpki::Error::UnsupportedCertVersion) =>
        {
            Err(format!("the first certificate {}", unread(cause(&error))))
        }
        Some(_) => Ok(chain),
    }
}

/// The certificates that an upstream's chain may end at. Each of them must be readable.
pub fn authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = certificates(pem)?;
    if found.is_empty() {
        return Err("there is no certificate in PEM form".to_owned());
    }
    for (at, certificate) in found.iter().enumerate() {
        let wrong = |error| format!("certificate {} {}", at + 1, unread(Some(&error)));
        webpki::anchor_from_trusted_cert(certificate).map_err(wrong)?;
    }
    Ok(found)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.map_err(|error| format!("it is not PEM: {error}"))
}

fn cause(error: &CertificateError) -> Option<&webpki::Error> {
    let CertificateError::Other(other) = error else { return None };
    other.0.downcast_ref()
}

/// The end of a sentence about a certificate that cannot be read, with the repair.
fn unread(cause: Option<&webpki::Error>) -> String {
    match cause {
        Some(webpki::Error::UnsupportedCriticalExtension) => {
            "has a critical extension that the gateway does not know: have it issued without that extension, or with it not critical"
                .to_owned()
        }
        Some(webpki::Error::SignatureAlgorithmMismatch) => {
            "names two algorithms of its signature that differ: have it issued again".to_owned()
        }
        Some(error) => format!("is not encoded as X.509 demands ({error}): have it issued again"),
        None => "is not encoded as X.509 demands: have it issued again".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EC: [&[u8]; 2] = [
        include_bytes!("../../tests/rust/certificates/ec.pem"),
        include_bytes!("../../tests/rust/certificates/ec.key"),
    ];
    const RSA: [&[u8]; 2] = [
        include_bytes!("../../tests/rust/certificates/rsa.pem"),
        include_bytes!("../../tests/rust/certificates/rsa.key"),
    ];
    const OLD: [&[u8]; 2] = [
        include_bytes!("../../tests/rust/certificates/v1.pem"),
        include_bytes!("../../tests/rust/certificates/v1.key"),
    ];

    const BROKEN: &[u8] = b"-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n";

    #[test]
    fn a_pair_is_usable_whatever_the_version_of_its_certificate() {
        for [chain, key] in [EC, RSA, OLD] {
            assert!(certified(chain, key).is_ok());
        }
        assert_eq!([EC, RSA, OLD].map(|[_, key]| key_kind(key)), [Ok("ecdsa"), Ok("rsa"), Ok("ecdsa")]);
    }

    #[test]
    fn an_unusable_pair_is_told_without_its_key() {
        let told = |chain, key| certified(chain, key).map(|_| ()).unwrap_err();
        assert!(told(EC[0], RSA[1]).contains("not that of the first certificate"));
        assert!(told(EC[0], b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n").contains("not a private key"));
        assert!(told(b"", EC[1]).contains("no certificate"));
        assert!(told(BROKEN, EC[1]).contains("is not encoded as X.509 demands"));
    }

    #[test]
    fn every_authority_must_be_readable_and_versions_do_not_count() {
        let all = [EC[0], RSA[0], OLD[0]].concat();
        assert_eq!(authorities(&all).map(|found| found.len()), Ok(3));
        let told = authorities(&[EC[0], BROKEN].concat()).unwrap_err();
        assert!(told.starts_with("certificate 2 is not encoded"), "{told}");
        assert!(authorities(EC[1]).unwrap_err().contains("no certificate"));
    }
}
