//! A service: one request in, one answer out.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use super::fault::Faults;

/// An answer of any service.
pub type Answer = Response<BoxBody<Bytes, io::Error>>;

/// A service behind a [`Server`](super::server::Server).
pub trait Service: Send + Sync + 'static {
    /// Answer one request; an error cuts the connection.
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = io::Result<Answer>> + Send + 'static;

    /// The connections to spoil instead of serving them, if any.
    fn faults(&self) -> Option<&Faults> {
        None
    }
}

/// An answer of JSON text.
pub fn json(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let body = Full::new(text.into()).map_err(|never| match never {}).boxed();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
