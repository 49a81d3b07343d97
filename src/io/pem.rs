//! Private keys in PEM form, judged by the library that workers use them with.
//!
//! In: a text. Out: the kind of its first key, or the reason why no handshake could use it. Whether the key belongs to a certificate
//! is another question.

use rustls::SignatureAlgorithm;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

/// `rsa`, `ecdsa` or `ed25519`.
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
