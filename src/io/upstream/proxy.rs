//! The proxy between the gateway and its upstreams, where the environment names one: `HTTPS_PROXY` for https upstreams (a
//! CONNECT tunnel), `HTTP_PROXY` for http upstreams (the whole URL in the request line), `ALL_PROXY` for both, `NO_PROXY` for
//! hosts without; lower case, too. The rules are curl's: loopback is not exempt by itself.
//!
//! In: an origin. Out: the proxy's address and credentials. Credentials go to the proxy only, and never into a text.

use std::future::{Ready, ready};
use std::io;
use std::task::{Context, Poll};

use aigw_core::balance::{ConnectFault, Origin};
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service as _;

use super::fault::Fault;
use super::notice::label;

/// The proxies of the environment.
pub(super) struct Proxies(Matcher);

impl Default for Proxies {
    fn default() -> Self {
        Self(Matcher::from_env())
    }
}

/// The proxy of one origin.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    /// The value of `Proxy-Authorization`.
    pub(super) authorization: Option<HeaderValue>,
}

impl Proxies {
    /// No proxy at all.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(Matcher::builder().build())
    }

    /// These proxies: for https, for http, for no host.
    #[cfg(test)]
    pub(super) fn given(https: &str, http: &str, no: &str) -> Self {
        Self(Matcher::builder().https(https).http(http).no(no).build())
    }

    /// The proxy on the way to `origin`.
    pub(super) fn of(&self, origin: &Origin) -> Option<Proxy> {
        let scheme = if origin.tls { "https" } else { "http" };
        let address = format!("{scheme}://{}/", label(origin)).parse::<Uri>().ok()?;
        let found = self.0.intercept(&address)?;
        let uri = found.uri();
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let mut authorization = found.basic_auth().cloned();
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Some(Proxy { host, port: uri.port_u16().unwrap_or(80), authorization })
    }
}

impl Proxy {
    /// Its address for the log.
    pub(super) fn shown(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Asks the proxy at the other end of `stream` for a tunnel to `origin`.
    pub(super) async fn tunnel(&self, stream: TcpStream, origin: &Origin) -> Result<TcpStream, Fault> {
        let wrong = |error: String| {
            Fault::new(ConnectFault::Proxy, format!("the proxy {} gives no tunnel: {error}", self.shown()))
        };
        let destination =
            format!("https://{}/", label(origin)).parse::<Uri>().map_err(|error| wrong(error.to_string()))?;
        let mut tunnel = Tunnel::new(Uri::default(), Connected(Some(stream)));
        if let Some(authorization) = &self.authorization {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        tunnel.call(destination).await.map(TokioIo::into_inner).map_err(|error| wrong(error.to_string()))
    }
}

/// The connection to the proxy that is there already, as the library's connector.
struct Connected(Option<TcpStream>);

impl tower_service::Service<Uri> for Connected {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<TokioIo<TcpStream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().map(TokioIo::new).ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn origin(tls: bool, host: &str) -> Origin {
        Origin { tls, verify: true, host: host.into(), port: 443, settings: None }
    }

    #[test]
    fn proxy_is_chosen_by_scheme_and_host() {
        let proxies =
            Proxies::given("http://u:secret@proxy.test:3128", "http://plain.test:8080", "10.0.0.0/8,.corp.test");
        let found = proxies.of(&origin(true, "api.example.com")).unwrap();
        assert_eq!((found.shown(), found.authorization.is_some()), ("proxy.test:3128".into(), true));
        assert!(!format!("{found:?}").contains("secret"));
        assert_eq!(proxies.of(&origin(false, "::1")).unwrap().shown(), "plain.test:8080");
        for host in ["10.1.2.3", "llm.corp.test"] {
            assert!(proxies.of(&origin(true, host)).is_none());
        }
        assert!(Proxies::none().of(&origin(true, "api.example.com")).is_none());
    }
}
