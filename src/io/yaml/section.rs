//! A section of a file that is known already: the rest is parsed without it.
//!
//! In: a file, and the bytes of one of its top keys with everything below it, which were parsed before, in another file perhaps. Out: the
//! document of the whole, in which the key has no value. Positions are those of the whole file. A reload of a file with 300,000 consumers
//! parses a few lines so.
//!
//! Invariant: the whole file parses exactly where the rest parses and the section stands in it as a top key of its own. The
//! parser goes forward. At the section's first byte it is between two top keys, whatever came before; so it reads the same section as it
//! did then, and it is between two top keys again behind it. Anchors would carry a meaning over this border, so a section with
//! anchors, aliases or tags does not count as one, nor does any of a file with directives.

use super::bounds::Bounds;
use super::build::{Tree, finish, tree};
use super::document::{Content, Document, Node, NodeId};
use super::fault::Step;

/// A top key of a file with everything below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// Its first byte, at the start of a line.
    pub start: usize,
    /// The first byte of the next top key, or the end of the file.
    pub end: usize,
    /// Keys and values in it.
    pub nodes: usize,
}

/// The section of a top key, if the rest of the file means the same without it.
#[must_use]
pub fn section<S: AsRef<[u8]>>(document: &Document<S>, name: &str) -> Option<Section> {
    let bytes = document.source.as_ref();
    let root = document.nodes.first()?;
    let is_block = matches!(root.content, Content::Mapping(..)) && bytes.get(root.start as usize) != Some(&b'{');
    if !is_block || !document.problems.is_empty() || has_directives(bytes) {
        return None;
    }
    let (key, _) = document.find(&[Step::Key(name.to_owned())])?;
    let key = key?;
    let next = document.children(0).iter().step_by(2).copied().find(|other| *other > key);
    let start = document.nodes.get(key as usize)?.start as usize;
    let end = next.map_or(bytes.len(), |next| document.nodes[next as usize].start as usize);
    let nodes = key as usize..next.map_or(document.nodes.len(), |next| next as usize);
    let text = bytes.get(start..end)?;
    let is_key = text.strip_prefix(name.as_bytes())?.first() == Some(&b':');
    let of_it = |node: &NodeId| nodes.contains(&(*node as usize));
    let is_plain = !document.marked.iter().any(of_it)
        && !document.nodes[nodes.clone()].iter().any(|node| matches!(node.content, Content::Alias(_)))
        && !begins_line(text, b"...");
    let found = Section { start, end, nodes: nodes.len() };
    (is_key && is_plain && is_apart(bytes, start, end)).then_some(found)
}

/// Parses a file without this section. `None`: the section does not stand there as [`section`] gave it in another file, or
/// the rest may mean something else without it: parse the whole.
pub fn load_without<S: AsRef<[u8]>>(source: S, bounds: Bounds, name: &str, section: Section) -> Option<Document<S>> {
    let bytes = source.as_ref();
    let Section { start, end, nodes } = section;
    let (head, tail) = (bytes.get(..start)?, bytes.get(end..)?);
    let key = format!("{name}:\n");
    let is_key = bytes.get(start..end)?.starts_with(key.trim_end().as_bytes());
    if bytes.len() > bounds.bytes || !is_key || end - start < key.len() || !is_apart(bytes, start, end) {
        return None;
    }
    let rest = [head, key.as_bytes(), tail].concat();
    let text = std::str::from_utf8(&rest).ok().filter(|text| !has_directives(text.as_bytes()))?;
    let (mut tree, stop) = tree(text, bounds.nodes.checked_sub(nodes)?);
    let behind = start + key.len();
    if stop.is_some() || !stands(&tree, text, start, behind) {
        return None;
    }
    let shift = u32::try_from(end - behind).ok()?;
    move_behind(&mut tree, u32::try_from(behind).ok()?, shift);
    finish(source, tree, None).ok()
}

/// Whether a top key begins at `start` and the next one, if any, at `behind`.
fn stands(tree: &Tree, text: &str, start: usize, behind: usize) -> bool {
    let Some(Node { content: Content::Mapping(first, count), start: root, .. }) = tree.nodes.first() else {
        return false;
    };
    let keys = || tree.children[*first as usize..(*first + *count) as usize].iter().step_by(2);
    let at = |key: &NodeId| tree.nodes[*key as usize].start as usize;
    let next = keys().map(at).find(|at| *at > start);
    tree.problems.is_empty()
        && text.as_bytes().get(*root as usize) != Some(&b'{')
        && keys().any(|key| at(key) == start)
        && next.map_or(text.len() == behind, |next| next == behind)
}

/// Adds `by` to every position from `from` on.
fn move_behind(tree: &mut Tree, from: u32, by: u32) {
    let moved = |at: u32| if at >= from { at + by } else { at };
    for node in &mut tree.nodes {
        (node.start, node.end) = (moved(node.start), moved(node.end).max(moved(node.start)));
        if let Content::Borrowed(start, end) = node.content {
            node.content = Content::Borrowed(moved(start), moved(end));
        }
    }
}

/// Whether a section is whole lines.
fn is_apart(bytes: &[u8], start: usize, end: usize) -> bool {
    let at_line = |at: usize| at == 0 || bytes.get(at - 1) == Some(&b'\n');
    at_line(start) && (end == bytes.len() || at_line(end))
}

fn has_directives(bytes: &[u8]) -> bool {
    begins_line(bytes, b"%")
}

/// Whether a line begins with these bytes.
fn begins_line(bytes: &[u8], with: &[u8]) -> bool {
    let ends = bytes.iter().enumerate().filter(|(_, byte)| matches!(byte, b'\n' | b'\r'));
    bytes.starts_with(with) || ends.into_iter().any(|(at, _)| bytes[at + 1..].starts_with(with))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::yaml::load;

    const LIST: &str = "consumers:\n- {username: a, tags: ['x: y']}\n# c\n- username: b\n\n";

    fn found(text: &str) -> Option<Section> {
        section(&load(text.as_bytes()).unwrap(), "consumers")
    }

    /// The section of `LIST` in another file.
    fn there(text: &str) -> Section {
        Section { start: text.find(LIST).unwrap(), end: text.find(LIST).unwrap() + LIST.len(), nodes: 11 }
    }

    fn without(text: &str) -> Option<Document<&[u8]>> {
        load_without(text.as_bytes(), Bounds::MOST, "consumers", there(text))
    }

    #[test]
    fn section_spans_a_key_to_the_next() {
        let text = format!("tiers: {{}}\n{LIST}plugins: []\n");
        let known = found(&text).unwrap();
        assert_eq!(&text[known.start..known.end], LIST);
        assert_eq!(known, there(&text));
        assert_eq!(found(LIST).unwrap(), Section { start: 0, end: LIST.len(), nodes: 11 });
    }

    #[test]
    fn section_is_none_where_a_meaning_crosses_its_border() {
        for text in [
            "consumers: [&a {username: a}]\n",
            "consumers: [!!str a]\n",
            "x: &a 1\nconsumers: [*a]\n",
            "{consumers: []}\n",
            "{\nconsumers: [],\ny: 1}\n",
            "'consumers': []\n",
            "? consumers\n: []\n",
            "%YAML 1.2\n---\nconsumers: []\n",
            "consumers: []\n...\n",
            "consumers: []\nconsumers: []\n",
            "x:\n  consumers: []\n",
            "- consumers: []\n",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn load_without_has_the_positions_of_the_whole() {
        for (head, tail) in [("", ""), ("a: 1\n", "b: [x]\nc: 'd''e'\n"), ("# é\n\na:\n  - |\n    x\n\n", "b: 2")] {
            let text = format!("{head}{LIST}{tail}");
            let (whole, rest) = (load(text.as_bytes()).unwrap(), without(&text).unwrap());
            for name in ["a", "b", "c", "consumers"] {
                let path = [Step::Key(name.to_owned())];
                let (one, other) = (whole.find(&path), rest.find(&path));
                assert_eq!(one.is_some(), other.is_some(), "{name} in {text}");
                let (Some((key, value)), Some((other_key, other_value))) = (one, other) else { continue };
                assert_eq!(whole.mark(key.unwrap()), rest.mark(other_key.unwrap()), "{name} in {text}");
                if name != "consumers" {
                    assert_eq!(whole.mark(value), rest.mark(other_value), "{name} in {text}");
                    assert_eq!(whole.text(value), rest.text(other_value), "{name} in {text}");
                }
            }
        }
    }

    #[test]
    fn load_without_refuses_a_section_that_stands_otherwise() {
        for (head, tail) in [
            ("a: |\n  x\n  ", "b: 1\n"),
            ("a: 'x\n", "'\n"),
            ("a: \"\n", "\"\n"),
            ("a: [\n", "]\n"),
            ("{\n", "}\n"),
            ("x:\n  ", "b: 1\n"),
            ("", "- {username: c}\n"),
            ("", "  - c\n"),
            ("", "# only a comment\n"),
            ("", "---\nb: 1\n"),
            ("%YAML 1.2\n---\n", ""),
            ("consumers: []\n", ""),
            ("", "consumers: []\n"),
            ("a: !x 1\n", ""),
            ("a: *b\n", ""),
            ("? a\n: 1\n? ", ""),
        ] {
            assert!(without(&format!("{head}{LIST}{tail}")).is_none(), "{head:?} {tail:?}");
        }
        let text = format!("{LIST}b: 1\n");
        let cut = Section { end: LIST.len() - 3, ..there(&text) };
        assert!(load_without(text.as_bytes(), Bounds::MOST, "consumers", cut).is_none());
        let few = Bounds { nodes: 13, ..Bounds::MOST };
        assert!(load_without(text.as_bytes(), few, "consumers", there(&text)).is_none());
    }
}
