//! Operations under `/v1`: which one a path and a method name.
//!
//! In: a head. Out: an [`Operation`], or a refusal. [`serves`] decides whether a path belongs to `/v1` at all.

use http::Method;

use super::CanonicalPath;
use crate::accept::openai::Endpoint;
use crate::refusal::{Reason, Refusal};
use crate::request::Head;

/// The operation of a request under `/v1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// A call of a model.
    Call(Endpoint),
    /// The list of models.
    Models,
    /// One model, by name.
    Model(&'a str),
    /// The caller's standing at its limits.
    Limits,
}

/// Whether the path is under `/v1`.
pub fn serves(path: &str) -> bool {
    path.strip_prefix("/v1").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The operation of a head.
pub fn operation(head: &Head) -> Result<Operation<'_>, Refusal> {
    CanonicalPath::new(&head.path).map_err(|_| Reason::BadPath)?;
    let operation = Operation::of(&head.path).ok_or(Reason::UnsupportedEndpoint)?;
    if operation.takes(&head.method) {
        return Ok(operation);
    }
    let allow = if matches!(operation, Operation::Call(_)) { "POST" } else { "GET, HEAD" };
    Err(Refusal::from(Reason::UnsupportedMethod).with(vec![("allow", allow.into())]))
}

impl<'a> Operation<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path.strip_prefix("/v1/")? {
            "chat/completions" => Self::Call(Endpoint::Chat),
            "completions" => Self::Call(Endpoint::Completions),
            "embeddings" => Self::Call(Endpoint::Embeddings),
            "models" => Self::Models,
            "limits" => Self::Limits,
            other => Self::Model(other.strip_prefix("models/").filter(|name| !name.is_empty())?),
        })
    }

    fn takes(self, method: &Method) -> bool {
        match self {
            Self::Call(_) => method == Method::POST,
            Self::Models | Self::Model(_) | Self::Limits => method == Method::GET || method == Method::HEAD,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_names_operation() {
        assert_eq!(Operation::of("/v1/chat/completions"), Some(Operation::Call(Endpoint::Chat)));
        assert_eq!(Operation::of("/v1/models/openai/gpt"), Some(Operation::Model("openai/gpt")));
        for path in ["/v1", "/v1/", "/v1/models/", "/v1/chat", "/v1/chat/completions/", "/v1/usage", "/v2/models"] {
            assert!(Operation::of(path).is_none(), "{path}");
        }
    }

    #[test]
    fn serves_only_paths_below_v1() {
        assert!(serves("/v1") && serves("/v1/") && serves("/v1/models"));
        assert!(!serves("/v1x") && !serves("/v2") && !serves("/"));
    }
}
