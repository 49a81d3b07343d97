//! Certificates and private keys in PEM form, for handshakes in either role.
//!
//! In: texts. Out: the kind of a key, a pair that handshakes can use, or the reason why they cannot. No reason holds a byte of a key. A
//! certificate of X.509 version 1 passes: the library does not read those, and nobody has to, in order to show one.

use rustls::crypto::ring::default_provider;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
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
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain = chain.map_err(|error| format!("its chain is not PEM: {error}"))?;
    if chain.is_empty() {
        return Err("its chain has no certificate".to_owned());
    }
    // The parser's error could repeat bytes of the key.
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|_| "its key is not a private key in PEM without a password")?;
    let wrong = |error| format!("chain and key cannot be used together: {error}");
    let made = CertifiedKey::new(chain, default_provider().key_provider.load_private_key(key).map_err(wrong)?);
    match made.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(made),
        Err(error) if is_of_version_1(&error) => Ok(made),
        Err(error) => Err(wrong(error)),
    }
}

fn is_of_version_1(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    other.0.downcast_ref::<webpki::Error>() == Some(&webpki::Error::UnsupportedCertVersion)
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
        assert!(told(EC[0], RSA[1]).contains("cannot be used together"));
        assert!(told(EC[0], b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n").contains("not a private key"));
        assert!(told(b"", EC[1]).contains("no certificate"));
        let broken = b"-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n";
        assert!(told(broken, EC[1]).contains("cannot be used together"));
    }
}
