//! The settings of TLS towards one upstream, where they differ from the usual ones.
//!
//! In: PEM texts and a name. Out: a value that is cheap to compare and to hash, because an origin with it is the key of a pool: its
//! digest stands for its content.

use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};

/// The content of a PEM file; empty without one.
pub type Pem = Box<[u8]>;

/// Authorities, name and certificate of the calls to one upstream. The PEM texts were checked by `aigw check`.
pub struct TlsSettings {
    /// The authorities that the upstream's certificate is checked by; empty: the system's.
    pub ca: Pem,
    /// The name in the upstream's certificate and in the greeting; `None`: the origin's host.
    pub server_name: Option<Box<str>>,
    /// The gateway's own certificate with its chain; empty: it shows none.
    pub cert: Pem,
    /// The key of `cert`; empty without one.
    pub key: Pem,
    digest: [u8; 32],
}

impl TlsSettings {
    /// Settings with their digest.
    pub fn new(ca: Pem, server_name: Option<Box<str>>, cert: Pem, key: Pem) -> Self {
        let mut digest = Sha256::new();
        for part in [&*ca, server_name.as_deref().unwrap_or_default().as_bytes(), &*cert, &*key] {
            // The length keeps the parts apart.
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        Self { ca, server_name, cert, key, digest: digest.finalize().into() }
    }

    /// Whether they are those of an upstream without settings.
    pub fn are_usual(&self) -> bool {
        self.ca.is_empty() && self.server_name.is_none() && self.cert.is_empty()
    }
}

impl PartialEq for TlsSettings {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for TlsSettings {}

impl Hash for TlsSettings {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl std::fmt::Debug for TlsSettings {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (ca, own) = (!self.ca.is_empty(), !self.cert.is_empty());
        write!(f, "TlsSettings(ca: {ca}, server name: {:?}, certificate: {own})", self.server_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_equal_by_content() {
        let pem = |text: &str| -> Pem { text.as_bytes().into() };
        let with = |ca, name: Option<&str>, key| TlsSettings::new(pem(ca), name.map(Into::into), pem("c"), pem(key));
        assert_eq!(with("x", Some("a"), "k"), with("x", Some("a"), "k"));
        for other in
            [with("y", Some("a"), "k"), with("", Some("xa"), "k"), with("x", None, "k"), with("x", Some("a"), "l")]
        {
            assert_ne!(with("x", Some("a"), "k"), other);
        }
        assert!(!with("", None, "").are_usual() && TlsSettings::new(pem(""), None, pem(""), pem("")).are_usual());
        assert!(!format!("{:?}", with("x", None, "secret key")).contains("secret"));
    }
}
