//! `DATA/secret`: the HMAC key of credentials.
//!
//! Made once, complete or not at all, readable by the gateway's user alone, and never written over: with another secret
//! no stored credential opens anything. In: the data folder. Out: the 32 bytes, for `KeyHasher` and nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Error, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Bytes of the secret.
pub const LEN: usize = 32;

/// Reads the secret of this data folder, for workers.
///
/// `NotFound` when there is none yet; `InvalidData` when it is not 32 bytes; `PermissionDenied` when others may read it.
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

/// Reads the secret, or makes it. Of two who make it at once one wins, and both use that one.
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
    // Gone already when it was never made.
    let _ = fs::remove_file(&draft);
    written?;
    load(data)
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
    fn a_damaged_one_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("secret"), b"short").unwrap();
        assert_eq!(load_or_make(dir.path()).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(fs::read(dir.path().join("secret")).unwrap(), b"short");
    }
}
