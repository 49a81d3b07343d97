//! The proxy between the gateway and its upstreams, where the environment names one: `HTTPS_PROXY` for https upstreams (a
//! CONNECT tunnel), `HTTP_PROXY` for http upstreams (the whole URL in the request line), `ALL_PROXY` for both, `NO_PROXY` for
//! hosts without; lower case, too. The rules are curl's: loopback is not exempt by itself.
//!
//! In: an origin. Out: the proxy's address and credentials. Credentials go to the proxy only, and never into a text.

use std::pin::pin;

use aigw_core::balance::{ConnectFault, Origin};
use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1::handshake;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::fault::Fault;
use super::notice::label;

/// Words for a proxy's 407.
pub(super) const NO_CREDENTIALS: &str =
    "it answers 407 Proxy Authentication Required: write the user and the password into the proxy's URL";

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
        let request = self.connect(origin).map_err(|error| wrong(error.to_string()))?;
        opened(stream, request).await.map_err(wrong)
    }

    fn connect(&self, origin: &Origin) -> Result<Request<Empty<Bytes>>, http::Error> {
        let to = label(origin);
        let mut request = Request::connect(to.as_str()).header(HOST, to.as_str());
        if let Some(authorization) = &self.authorization {
            request = request.header(PROXY_AUTHORIZATION, authorization.clone());
        }
        request.body(Empty::new())
    }
}

/// The stream behind the proxy's 2xx. The words of an error hold nothing that the proxy wrote.
async fn opened(stream: TcpStream, request: Request<Empty<Bytes>>) -> Result<TcpStream, String> {
    let words = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(words)?;
    let asked = async move {
        let answer = sender.send_request(request).await.map_err(words)?;
        match answer.status() {
            status if status.is_success() => hyper::upgrade::on(answer).await.map_err(words),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(NO_CREDENTIALS.to_owned()),
            status => Err(format!("it answers {status}")),
        }
    };
    // The connection moves the bytes of both directions, and ends when the tunnel is open.
    let (mut asked, mut connection, mut ended) = (pin!(asked), pin!(connection.with_upgrades()), false);
    let upgraded = loop {
        tokio::select! {
            biased;
            upgraded = &mut asked => break upgraded?,
            _ = &mut connection, if !ended => ended = true,
        }
    };
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) if parts.read_buf.is_empty() => Ok(parts.io.into_inner()),
        _ => Err("it sent bytes before the upstream's".to_owned()),
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
