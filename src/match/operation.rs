//! Operations under `/v1`, and under Azure's paths of the same: which one a path and a method name.
//!
//! In: a head. Out: an [`Operation`], or a refusal. [`serves`] and [`serves_azure`] decide whether a path belongs here at all.
//! Source of Azure's paths: its REST reference, and the class `AzureOpenAI` of OpenAI's Python client.

use http::Method;

use super::CanonicalPath;
use crate::accept::openai::Endpoint;
use crate::refusal::{Reason, Refusal, openai};
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
    /// The caller's usage.
    Usage,
    /// The count of a body's input tokens.
    Tokenize,
}

/// Azure's paths of a model: `/openai/deployments/{model}/chat/completions`.
const DEPLOYMENTS: &str = "/openai/deployments/";

/// The parts behind `/openai/` that belong here: those that are served, then those whose callers are told of another endpoint.
const AZURE: [&str; 7] = ["deployments", "models", "v1", "responses", "assistants", "threads", "realtime"];

/// Whether the path is under `/v1`.
pub fn serves(path: &str) -> bool {
    path.strip_prefix("/v1").is_some_and(is_below)
}

/// Whether the path is one of Azure's dialect. Routes below `/openai` come first: see [`route_precedes`].
pub fn serves_azure(path: &str) -> bool {
    path.strip_prefix("/openai/")
        .is_some_and(|rest| AZURE.iter().any(|part| rest.strip_prefix(part).is_some_and(is_below)))
}

/// Whether a route whose path covers `covered` bytes keeps a request in Azure's dialect: it names at least `/openai`, which a
/// route for everything does not.
pub fn route_precedes(covered: usize) -> bool {
    covered >= "/openai".len()
}

fn is_below(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}

/// The model that a path of Azure's dialect names. A name may have slashes.
pub fn deployment(path: &str) -> Option<&str> {
    deployed(path.strip_prefix(DEPLOYMENTS)?).map(|(_, model)| model)
}

/// Endpoint and model behind [`DEPLOYMENTS`]. `/chat/completions` is looked for first: it ends as `/completions` does.
fn deployed(rest: &str) -> Option<(Endpoint, &str)> {
    let named = |endpoint: Endpoint| rest.strip_suffix(endpoint.path()).map(|model| (endpoint, model));
    let (endpoint, model) =
        [Endpoint::Chat, Endpoint::Completions, Endpoint::Embeddings].into_iter().find_map(named)?;
    (!model.is_empty()).then_some((endpoint, model))
}

/// The operation of a head.
pub fn operation(head: &Head) -> Result<Operation<'_>, Refusal> {
    CanonicalPath::new(&head.path).map_err(|_| Reason::BadPath)?;
    let operation = Operation::of(&head.path).ok_or_else(|| openai::no_endpoint(&head.path))?;
    if operation.takes(&head.method) {
        return Ok(operation);
    }
    let allow = if matches!(operation, Operation::Call(_) | Operation::Tokenize) { "POST" } else { "GET, HEAD" };
    Err(Refusal::from(Reason::UnsupportedMethod).with(vec![("allow", allow.into())]))
}

impl<'a> Operation<'a> {
    fn of(path: &'a str) -> Option<Self> {
        if let Some(rest) = path.strip_prefix("/v1/").or_else(|| path.strip_prefix("/openai/v1/")) {
            return Self::named(rest);
        }
        if let Some(rest) = path.strip_prefix(DEPLOYMENTS) {
            return deployed(rest).map(|(endpoint, _)| Self::Call(endpoint));
        }
        match path.strip_prefix("/openai/")? {
            rest if rest.starts_with("models") => Self::named(rest),
            _ => None,
        }
    }

    fn named(rest: &'a str) -> Option<Self> {
        Some(match rest {
            "chat/completions" => Self::Call(Endpoint::Chat),
            "completions" => Self::Call(Endpoint::Completions),
            "embeddings" => Self::Call(Endpoint::Embeddings),
            "models" => Self::Models,
            "limits" => Self::Limits,
            "usage" => Self::Usage,
            "tokenize" => Self::Tokenize,
            other => Self::Model(other.strip_prefix("models/").filter(|name| !name.is_empty())?),
        })
    }

    fn takes(self, method: &Method) -> bool {
        match self {
            Self::Call(_) | Self::Tokenize => method == Method::POST,
            Self::Models | Self::Model(_) | Self::Limits | Self::Usage => {
                method == Method::GET || method == Method::HEAD
            }
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
        for path in [
            "/openai/deployments/gpt/chat/completions",
            "/openai/deployments/a/b/chat/completions",
            "/openai/v1/chat/completions",
        ] {
            assert_eq!(Operation::of(path), Some(Operation::Call(Endpoint::Chat)), "{path}");
        }
        assert_eq!(Operation::of("/openai/deployments/chat/completions"), Some(Operation::Call(Endpoint::Completions)));
        assert_eq!(Operation::of("/openai/models"), Some(Operation::Models));
        for path in [
            "/openai/deployments//chat/completions",
            "/openai/deployments/gpt",
            "/openai/deployments",
            "/openai/completions",
            "/openai/modelsx",
            "/openai/v1",
        ] {
            assert!(Operation::of(path).is_none(), "{path}");
        }
        for path in ["/v1", "/v1/", "/v1/models/", "/v1/chat", "/v1/chat/completions/", "/v1/usage/", "/v2/models"] {
            assert!(Operation::of(path).is_none(), "{path}");
        }
    }

    #[test]
    fn path_of_azure_names_its_model() {
        for (path, wanted) in [
            ("/openai/deployments/gpt-4/chat/completions", Some("gpt-4")),
            ("/openai/deployments/openai/gpt/embeddings", Some("openai/gpt")),
            ("/openai/deployments/chat/completions", Some("chat")),
            ("/openai/v1/chat/completions", None),
            ("/v1/chat/completions", None),
        ] {
            assert_eq!(deployment(path), wanted, "{path}");
        }
        assert!(serves_azure("/openai/deployments/x") && serves_azure("/openai/v1") && serves_azure("/openai/models"));
        assert!(serves_azure("/openai/responses") && serves_azure("/openai/threads/1/runs"));
        assert!(
            !serves_azure("/openai")
                && !serves_azure("/openai/responsesx")
                && !serves_azure("/openai/files")
                && !serves_azure("/openai/v1x")
        );
    }

    #[test]
    fn serves_only_paths_below_v1() {
        assert!(serves("/v1") && serves("/v1/") && serves("/v1/models"));
        assert!(!serves("/v1x") && !serves("/v2") && !serves("/"));
    }
}
