//! Paths on the proxy address by which load balancers and kubelets ask whether a worker lives, and whether it takes requests.
//!
//! In: a head. Out: a [`Probe`], which the worker answers without a key. Paths that the operator chose come before all routes, the
//! usual ones after them.

use http::Method;

use crate::request::Head;

/// The question of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Whether the worker runs.
    Live,
    /// Whether it takes requests.
    Ready,
}

/// The paths of probes.
#[derive(Debug, Clone)]
pub struct Probes {
    paths: Box<[Box<str>]>,
    /// They come before all routes.
    precede: bool,
}

impl Probes {
    /// The paths that the operator chose; `None`: the usual ones.
    pub fn new(paths: Option<Vec<String>>) -> Self {
        let precede = paths.is_some();
        let paths = paths.unwrap_or_else(|| vec!["/livez".into(), "/readyz".into()]);
        Self { paths: paths.into_iter().map(Into::into).collect(), precede }
    }

    /// The question of a request that no route sees.
    pub fn before_routes(&self, head: &Head) -> Option<Probe> {
        if self.precede { self.of(head) } else { None }
    }

    /// The question of a request.
    pub fn of(&self, head: &Head) -> Option<Probe> {
        let path = self.paths.iter().find(|path| ***path == *head.path)?;
        let asks = head.method == Method::GET || head.method == Method::HEAD;
        asks.then_some(if path.ends_with("/livez") { Probe::Live } else { Probe::Ready })
    }
}
