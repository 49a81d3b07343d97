//! From an address to a stream that HTTP can be spoken on: TCP, through a proxy where the environment names one, TLS where the
//! upstream has it.
//!
//! In: an address of the upstream, or of its proxy. Out: the stream with its socket; or the fault, with words for the log that hold no
//! credential.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use aigw_core::balance::{ConnectFault, Origin};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connection::prepare;
use super::fault::Fault;
use super::proxy::Proxy;

/// A stream to an upstream.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects to an address of `origin`, or of its `proxy`; `tls` for an origin with TLS. Also returns the descriptor of the socket.
pub(super) async fn dial(
    origin: &Origin,
    address: SocketAddr,
    proxy: Option<&Proxy>,
    tls: Option<&TlsConnector>,
) -> Result<(Stream, RawFd), Fault> {
    let stream = TcpStream::connect(address).await.map_err(|error| match proxy {
        None => of_connect(&error),
        Some(proxy) => Fault::new(ConnectFault::Proxy, format!("the proxy {} at {address}: {error}", proxy.shown())),
    })?;
    let socket = prepare(&stream);
    let Some(tls) = tls else { return Ok((Stream::Plain(stream), socket)) };
    let stream = match proxy {
        None => stream,
        Some(proxy) => proxy.tunnel(stream, origin).await?,
    };
    let stream = tls.connect(server_name(origin)?, stream).await.map_err(|error| of_tls(&error))?;
    Ok((Stream::Tls(Box::new(stream)), socket))
}

fn server_name(origin: &Origin) -> Result<ServerName<'static>, Fault> {
    let own = origin.settings.as_ref().and_then(|settings| settings.server_name.as_deref());
    let name = own.unwrap_or(&origin.host).to_owned();
    ServerName::try_from(name.clone())
        .map_err(|_| Fault::new(ConnectFault::Tls, format!("'{name}' is no name that a certificate can have")))
}

fn of_connect(error: &io::Error) -> Fault {
    use io::ErrorKind::{
        AddrNotAvailable, HostUnreachable, NetworkDown, NetworkUnreachable, PermissionDenied, TimedOut,
    };
    let kind = match error.kind() {
        TimedOut => ConnectFault::TimedOut,
        AddrNotAvailable | HostUnreachable | NetworkDown | NetworkUnreachable | PermissionDenied => {
            ConnectFault::Unreachable
        }
        _ if error.raw_os_error() == Some(libc::EINVAL) => ConnectFault::Unreachable,
        _ => ConnectFault::Refused,
    };
    Fault::new(kind, error.to_string())
}

/// The server's word that it takes no call without a certificate, or not with the gateway's own, if `error` is that.
pub(super) fn refused_certificate(error: &hyper::Error) -> Option<Fault> {
    use rustls::AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked, CertificateUnknown,
        DecryptError, HandshakeFailure, UnknownCA, UnsupportedCertificate,
    };
    let mut source = error.source();
    let found = std::iter::from_fn(|| {
        let one = source?;
        source = one.source();
        Some(one)
    })
    .find_map(|one| one.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>());
    match found {
        Some(rustls::Error::AlertReceived(
            alert @ (AccessDenied
            | BadCertificate
            | CertificateExpired
            | CertificateRequired
            | CertificateRevoked
            | CertificateUnknown
            | DecryptError
            | HandshakeFailure
            | UnknownCA
            | UnsupportedCertificate),
        )) => Some(Fault::new(
            ConnectFault::Tls,
            format!(
                "the upstream refuses the gateway's certificate, or demands one ({alert:?}): check tls_cert and tls_key"
            ),
        )),
        _ => None,
    }
}

/// The words of rustls name the reason: unknown issuer, expired, another name, and so on.
fn of_tls(error: &io::Error) -> Fault {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let text = match inner {
        Some(rustls::Error::InvalidMessage(_)) => format!("the upstream does not speak TLS there: {error}"),
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => format!(
            "{error}: the certificate is not signed by a trusted authority; name its authority in tls_ca or SSL_CERT_FILE"
        ),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the upstream closed the connection in the handshake".to_owned()
        }
        _ => error.to_string(),
    };
    Fault::new(ConnectFault::Tls, text)
}
