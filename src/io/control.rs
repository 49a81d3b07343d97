//! Questions of a worker to the control process, over the socket in the data folder.
//!
//! In: one line of JSON. Out: one line of JSON, within a time and a size; one connection for each question. It knows nothing of either. The
//! control process makes a new socket at each of its starts, so every question looks it up.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The socket's name in the data folder.
const NAME: &str = "control.sock";
/// Most bytes of a socket's path: `sun_path` has 108 with its end (unix(7)).
const MOST_PATH: usize = 107;
/// The longest wait for a reply: callers of the gateway wait for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of a reply: 10,000 rows of usage have 4 MiB.
const MOST_REPLY: u64 = 16 * 1024 * 1024;

/// The way to the control process of a data folder.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    path: PathBuf,
    /// The data folder, where its path is too long for a socket's.
    _folder: Option<File>,
}

impl ControlSocket {
    /// The socket of a data folder, which need not be there yet.
    pub(crate) fn of(data: &Path) -> io::Result<Self> {
        let path = data.join(NAME);
        if path.as_os_str().len() <= MOST_PATH {
            return Ok(Self { path, _folder: None });
        }
        let folder = File::open(data)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd()));
        Ok(Self { path, _folder: Some(folder) })
    }

    /// Asks, and returns the reply. `line` ends with a line feed.
    pub(crate) async fn ask(&self, line: &str) -> io::Result<Vec<u8>> {
        timeout(PATIENCE, self.exchange(line)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn exchange(&self, line: &str) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.path).await?;
        stream.write_all(line.as_bytes()).await?;
        let mut reply = Vec::new();
        stream.take(MOST_REPLY + 1).read_to_end(&mut reply).await?;
        if reply.len() as u64 > MOST_REPLY || reply.last() != Some(&b'\n') {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;
    use std::thread::spawn;

    use super::*;

    /// `paused`: time passes at once while everything waits.
    fn asked(socket: &ControlSocket, paused: bool) -> io::Result<Vec<u8>> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(paused).build().unwrap().block_on(socket.ask("{}\n"))
    }

    /// Answers one question with these bytes.
    fn replying(path: &Path, reply: &'static [u8]) {
        let listener = UnixListener::bind(path).unwrap();
        spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            stream.write_all(reply).unwrap();
        });
    }

    #[test]
    fn reply_comes_from_a_folder_with_a_long_path() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("d".repeat(200));
        std::fs::create_dir(&data).unwrap();
        let socket = ControlSocket::of(&data).unwrap();
        assert!(asked(&socket, false).is_err(), "nobody listens yet");
        replying(&socket.path, b"{\"answer\": 1}\n");
        assert_eq!(asked(&socket, false).unwrap(), b"{\"answer\": 1}\n");
    }

    #[test]
    fn torn_reply_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let socket = ControlSocket::of(folder.path()).unwrap();
        replying(&folder.path().join(NAME), b"{\"answer\": ");
        assert_eq!(asked(&socket, false).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn silent_control_process_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let socket = ControlSocket::of(folder.path()).unwrap();
        let _listener = UnixListener::bind(folder.path().join(NAME)).unwrap();
        assert_eq!(asked(&socket, true).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
