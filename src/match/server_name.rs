//! The server name of a TLS handshake -> the certificate that serves it, in the order of Kong.
//!
//! In: names of certificates (`a.example`, `*.b.example`, `c.*`, `*`), then the name that a client asks for. Out: an index. A `*` stands
//! for exactly one label, except where it is the whole name. The exact name wins, then `*.rest`, then `rest.*`, then `*`.

use std::collections::HashMap;

/// Why a name cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerNameError {
    /// Not of one of the four forms.
    #[error("\"{0}\" is no server name: give a name, \"*.name\", \"name.*\" or \"*\"")]
    Form(String),
    /// Two certificates have it.
    #[error("the server name \"{0}\" belongs to two certificates: take it from one of them")]
    Twice(String),
}

/// Names in lower case, each with the index of its certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerNames(HashMap<Box<str>, usize>);

impl ServerNames {
    /// Lets `name` lead to the certificate at `index`.
    pub fn add(&mut self, name: &str, index: usize) -> Result<(), ServerNameError> {
        let lower = name.to_ascii_lowercase();
        if !is_well_formed(&lower) {
            return Err(ServerNameError::Form(name.to_owned()));
        }
        match self.0.insert(lower.into(), index) {
            Some(other) if other != index => Err(ServerNameError::Twice(name.to_owned())),
            _ => Ok(()),
        }
    }

    /// The certificates for a client that asks for `name`, the best first, at most four. Without a name: the one of `*`.
    pub fn find<'a>(&'a self, name: Option<&str>) -> impl Iterator<Item = usize> + use<'a> {
        let lower = name.map(str::to_ascii_lowercase);
        let suffix = lower.as_deref().and_then(|name| Some(format!("*{}", &name[name.find('.')?..])));
        let prefix = lower.as_deref().and_then(|name| Some(format!("{}*", &name[..=name.rfind('.')?])));
        let forms = [lower, suffix, prefix, Some("*".to_owned())];
        forms.into_iter().flatten().filter_map(|form| self.0.get(form.as_str()).copied())
    }
}

/// Whether a name has one of the four forms.
fn is_well_formed(name: &str) -> bool {
    let fixed = name.strip_prefix("*.").or_else(|| name.strip_suffix(".*")).unwrap_or(name);
    name == "*" || (!fixed.is_empty() && fixed.len() <= 253 && fixed.split('.').all(is_label))
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= 63
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn names(of: &[&str]) -> ServerNames {
        let mut names = ServerNames::default();
        of.iter().enumerate().for_each(|(index, name)| names.add(name, index).unwrap());
        names
    }

    #[test]
    fn exact_name_wins_over_suffix_over_prefix_over_any() {
        let names = names(&["*", "a.*", "*.example", "A.example"]);
        let found = |name| names.find(Some(name)).collect::<Vec<_>>();
        assert_eq!(found("a.EXAMPLE"), [3, 2, 1, 0]);
        assert_eq!(found("b.example"), [2, 0]);
        assert_eq!(found("a.test"), [1, 0]);
        assert_eq!(found("x.a.example"), [0], "a star is one label");
        assert_eq!(found("a.co.test"), [0]);
        assert_eq!(found("localhost"), [0]);
        assert_eq!(names.find(None).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn names_without_a_certificate_find_none() {
        let names = names(&["a.example", "*.b.example"]);
        assert_eq!(names.find(Some("c.example")).next(), None);
        assert_eq!(names.find(None).next(), None);
        // A client cannot ask for a pattern's own text: the certificate of a pattern is not its own name's.
        assert_eq!(names.find(Some("b.example")).next(), None);
    }

    #[test]
    fn name_of_another_form_or_of_two_certificates_is_refused() {
        for name in ["", "*.", ".*", "*.*", "a.*.b", "*a.example", "a..b", "a b", "*.b.*", "a/b", "ä.example"] {
            assert_eq!(ServerNames::default().add(name, 0), Err(ServerNameError::Form(name.to_owned())), "{name}");
        }
        let mut names = names(&["a.example"]);
        assert_eq!(names.add("A.example", 0), Ok(()));
        assert_eq!(names.add("A.example", 1), Err(ServerNameError::Twice("A.example".to_owned())));
    }

    /// The same answer as comparing label by label.
    fn fits(pattern: &str, name: &str) -> bool {
        let (pattern, name): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), name.split('.').collect());
        pattern == ["*"]
            || pattern.len() == name.len() && pattern.iter().zip(&name).all(|(one, other)| *one == "*" || one == other)
    }

    proptest! {
        #[test]
        fn found_certificates_are_those_whose_pattern_fits(
            patterns in proptest::collection::hash_set("(\\*\\.)?[ab](\\.[ab]){0,2}|[ab](\\.[ab]){0,2}\\.\\*|\\*", 0..8),
            name in "[ab](\\.[ab]){0,3}",
        ) {
            let patterns: Vec<_> = patterns.iter().map(String::as_str).collect();
            let mut found: Vec<_> = names(&patterns).find(Some(&name)).map(|index| patterns[index]).collect();
            let rank = |pattern: &str| match pattern {
                "*" => 3,
                _ if pattern.ends_with('*') => 2,
                _ if pattern.starts_with('*') => 1,
                _ => 0,
            };
            prop_assert!(found.is_sorted_by_key(|pattern| rank(pattern)));
            let mut fitting: Vec<_> = patterns.iter().copied().filter(|pattern| fits(pattern, &name)).collect();
            found.sort_unstable();
            fitting.sort_unstable();
            prop_assert_eq!(found, fitting);
        }
    }
}
