//! `DATA/secret`: the HMAC key of credentials.
//!
//! The file is made once, complete or not at all, readable by the gateway's user alone, and never replaced: with another secret
//! no stored credential works. In: the data folder. Out: the 32 bytes, for `KeyHasher` and [`Sealer`] only.
//! A [`Sealer`] encrypts secrets that must be readable again (keys of upstreams), so no file, dump or log has them as plain text.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Error, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;

/// Bytes of the secret.
pub const LEN: usize = 32;

/// Reads the secret of this data folder, for workers.
///
/// Fails with `NotFound` without a secret, `InvalidData` unless it has 32 bytes, `PermissionDenied` if others may read it.
pub fn load(data: &Path) -> io::Result<[u8; LEN]> {
    let path = data.join("secret");
    let fail = |kind, why: &str| Error::new(kind, format!("{}: {why}", path.display()));
    let mut file = File::open(&path).map_err(|error| fail(error.kind(), &error.to_string()))?;
    let about = file.metadata()?;
    if about.mode() & 0o077 != 0 {
        return Err(fail(ErrorKind::PermissionDenied, "others may read it; run chmod 600 on it"));
    }
    if about.len() != LEN as u64 {
        return Err(fail(ErrorKind::InvalidData, "it is not 32 bytes; restore it from a backup"));
    }
    let mut secret = [0; LEN];
    file.read_exact(&mut secret)?;
    Ok(secret)
}

/// Reads the secret, or makes it. If two processes make it at once, both use the first one.
pub fn load_or_make(data: &Path) -> io::Result<[u8; LEN]> {
    match load(data) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        other => return other,
    }
    let mut secret = [0; LEN];
    File::open("/dev/urandom")?.read_exact(&mut secret)?;
    let draft = data.join(format!("secret.{}.new", std::process::id()));
    let written = write(&draft, &secret).and_then(|()| match fs::hard_link(&draft, data.join("secret")) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => File::open(data)?.sync_all(),
    });
    // The temporary file may not exist: ignore the error.
    let _ = fs::remove_file(&draft);
    written?;
    load(data)
}

/// Seals texts under a key derived from the secret: ChaCha20-Poly1305 (RFC 8439) with a random nonce.
pub struct Sealer(Option<LessSafeKey>);

impl Sealer {
    /// From the secret.
    #[must_use]
    pub fn new(secret: &[u8; LEN]) -> Self {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"aigw: sealed texts, 1");
        Self(UnboundKey::new(&CHACHA20_POLY1305, derived.as_ref()).ok().map(LessSafeKey::new))
    }

    /// The sealed text, in hex: nonce, then cipher text and tag. Fails when the system has no randomness.
    pub fn seal(&self, plain: &[u8]) -> io::Result<String> {
        let mut nonce = [0; NONCE_LEN];
        rustix::rand::getrandom(&mut nonce, rustix::rand::GetRandomFlags::empty())?;
        let mut sealed = plain.to_vec();
        let key = self.0.as_ref().ok_or(ErrorKind::InvalidData)?;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
            .map_err(|_| ErrorKind::InvalidData)?;
        Ok(base16ct::lower::encode_string(&[&nonce, &*sealed].concat()))
    }

    /// The plain text; `None` for a text that is damaged or sealed under another secret.
    #[must_use]
    pub fn open(&self, sealed: &str) -> Option<Vec<u8>> {
        let mut bytes = base16ct::mixed::decode_vec(sealed).ok()?;
        let nonce = Nonce::try_assume_unique_for_key(bytes.get(..NONCE_LEN)?).ok()?;
        let plain = self.0.as_ref()?.open_in_place(nonce, Aad::empty(), bytes.get_mut(NONCE_LEN..)?).ok()?;
        Some(plain.to_vec())
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(..)")
    }
}

fn write(draft: &Path, secret: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(draft)?;
    file.write_all(secret)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn it_is_made_once_for_one_user_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()).unwrap_err().kind(), ErrorKind::NotFound);
        let secret = load_or_make(dir.path()).unwrap();
        assert_ne!(secret, [0; LEN]);
        assert_eq!(load_or_make(dir.path()).unwrap(), secret);
        let path = dir.path().join("secret");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(load_or_make(dir.path()).unwrap_err().kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn sealed_text_opens_under_the_same_secret_only() {
        let sealer = Sealer::new(&[7; LEN]);
        let sealed = sealer.seal(b"sk-upstream").unwrap();
        assert!(!sealed.contains("sk-upstream") && sealer.seal(b"sk-upstream").unwrap() != sealed);
        assert_eq!(sealer.open(&sealed).as_deref(), Some(&b"sk-upstream"[..]));
        assert_eq!(Sealer::new(&[8; LEN]).open(&sealed), None);
        for damaged in ["", "00", "zz", &sealed[..sealed.len() - 2], &format!("00{}", &sealed[2..])] {
            assert_eq!(sealer.open(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn damaged_secret_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("secret"), b"short").unwrap();
        assert_eq!(load_or_make(dir.path()).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(fs::read(dir.path().join("secret")).unwrap(), b"short");
    }
}
