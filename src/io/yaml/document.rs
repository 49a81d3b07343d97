//! The tree of one file: an arena over its bytes, and the searches in it.
//!
//! A number names a node. Numbers grow with the position in the file, so positions are found by bisection: the children of a
//! list in one step, the path of a position in depth x log. Text without escapes is borrowed from the file. Every search from
//! the root follows aliases.

use std::sync::OnceLock;

use super::fault::{Fault, Mark, Step};

/// A node of the tree.
pub type NodeId = u32;

/// The content of a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Content {
    /// `null`, `~`, or nothing.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number; always finite.
    Float(f64),
    /// Text that the file has without escapes: byte range.
    Borrowed(u32, u32),
    /// Text with escapes or folded lines: its index.
    Owned(u32),
    /// First child, and the number of children.
    Sequence(u32, u32),
    /// First child, and the number of children: key, value, key, value.
    Mapping(u32, u32),
    /// Stands for another node.
    Alias(NodeId),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub start: u32,
    pub end: u32,
    pub content: Content,
}

/// A scalar that overlaps a stretch of a line: byte range in that stretch, and its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// From this byte.
    pub from: usize,
    /// To before this byte.
    pub to: usize,
    /// `None` for a part that the tree left out, except for the keys that it left out.
    pub path: Option<Vec<Step>>,
    /// Whether it is a key.
    pub key: bool,
}

/// A parsed file. `S` holds its bytes.
#[derive(Debug)]
pub struct Document<S> {
    pub(super) source: S,
    pub(super) nodes: Vec<Node>,
    pub(super) children: Vec<NodeId>,
    pub(super) owned: Vec<Box<str>>,
    /// Keys that were left out of their mappings because they are problems, in order.
    pub(super) dropped: Vec<NodeId>,
    /// Nodes with an anchor or a tag, in order.
    pub(super) marked: Vec<NodeId>,
    /// The problems, in the order of the file.
    pub problems: Vec<Fault>,
    pub(super) lines: OnceLock<Vec<u32>>,
}

impl<S: AsRef<[u8]>> Document<S> {
    /// The content of a node, aliases followed.
    #[must_use]
    pub fn content(&self, node: NodeId) -> Content {
        self.nodes[self.target(node) as usize].content
    }

    /// The node that an alias stands for; of another node, that node.
    #[must_use]
    pub fn target(&self, mut node: NodeId) -> NodeId {
        while let Content::Alias(target) = self.nodes[node as usize].content {
            node = target;
        }
        node
    }

    /// The text of a string, or the file's own characters of another scalar.
    #[must_use]
    pub fn text(&self, node: NodeId) -> &str {
        match self.content(node) {
            Content::Borrowed(from, to) => self.slice(from, to),
            Content::Owned(index) => &self.owned[index as usize],
            _ => self.source_text(node),
        }
    }

    /// The file's own bytes of a node, quotes included.
    #[must_use]
    pub fn source_text(&self, node: NodeId) -> &str {
        let Node { start, end, .. } = self.nodes[node as usize];
        self.slice(start, end)
    }

    /// Children of a list, or keys and values of a mapping in turn.
    #[must_use]
    pub fn children(&self, node: NodeId) -> &[NodeId] {
        match self.content(node) {
            Content::Sequence(first, count) | Content::Mapping(first, count) => {
                &self.children[first as usize..(first + count) as usize]
            }
            _ => &[],
        }
    }

    /// The key (in a mapping) and the value at a path.
    #[must_use]
    pub fn find(&self, path: &[Step]) -> Option<(Option<NodeId>, NodeId)> {
        let mut found = (None, 0);
        for step in path {
            let children = self.children(found.1);
            found = match (step, self.content(found.1)) {
                (Step::Index(index), Content::Sequence(..)) => (None, *children.get(*index)?),
                (Step::Key(name), Content::Mapping(..)) => {
                    let pair = children.chunks_exact(2).find(|pair| self.text(pair[0]) == name)?;
                    (Some(pair[0]), pair[1])
                }
                _ => return None,
            };
        }
        Some(found)
    }

    /// The position of a node.
    #[must_use]
    pub fn mark(&self, node: NodeId) -> Mark {
        let Node { start, end, content } = self.nodes[node as usize];
        let whole = !matches!(content, Content::Mapping(..) | Content::Sequence(..))
            || self.line_of(start) == self.line_of(end.max(start + 1) - 1);
        self.mark_of(start, if whole { end } else { start + 1 })
    }

    /// The line (from 1) of a node's first character.
    #[must_use]
    pub fn line(&self, node: NodeId) -> usize {
        self.line_of(self.nodes[node as usize].start) + 1
    }

    /// Line, column and length of a byte range, the length cut at the end of the line.
    #[must_use]
    pub fn mark_of(&self, start: u32, end: u32) -> Mark {
        let line = self.line_of(start);
        let (from, to) = self.line_range(line);
        let start = start.clamp(from, to);
        let column = self.slice(from, start).chars().count() + 1;
        let length = self.slice(start, end.clamp(start, to)).chars().count().max(1);
        Mark { line: line + 1, column, length }
    }

    /// A stretch of at most `width` bytes of a line (from 1) around a column, the characters left out before it, whether
    /// something was left out after it, and the scalars in it.
    #[must_use]
    pub fn excerpt(&self, line: usize, column: usize, width: usize) -> (&str, usize, bool, Vec<Placed>) {
        let (from, to) = self.line_range(line.saturating_sub(1));
        let (text, skipped, cut) = window(self.slice(from, to), column, width);
        let start = from as usize + skipped;
        let before = self.slice(from, u32::try_from(start).unwrap_or(from)).chars().count();
        (text, before, cut, self.scalars(start, start + text.len()))
    }

    /// Paths of all text that holds `needle`, aliases written out.
    #[must_use]
    pub fn containing(&self, needle: &str) -> Vec<Vec<Step>> {
        let mut found = Vec::new();
        if !self.nodes.is_empty() {
            self.search(0, needle, &mut Vec::new(), &mut found);
        }
        found
    }

    fn search(&self, node: NodeId, needle: &str, path: &mut Vec<Step>, found: &mut Vec<Vec<Step>>) {
        match self.content(node) {
            Content::Sequence(..) => {
                for (index, child) in self.children(node).iter().enumerate() {
                    path.push(Step::Index(index));
                    self.search(*child, needle, path, found);
                    path.pop();
                }
            }
            Content::Mapping(..) => {
                for pair in self.children(node).chunks_exact(2) {
                    path.push(Step::Key(self.text(pair[0]).to_owned()));
                    self.search(pair[1], needle, path, found);
                    path.pop();
                }
            }
            Content::Borrowed(..) | Content::Owned(_) if self.text(node).contains(needle) => found.push(path.clone()),
            _ => {}
        }
    }

    fn scalars(&self, from: usize, to: usize) -> Vec<Placed> {
        let first = self.nodes.partition_point(|node| (node.start as usize) < from);
        let is_scalar = |node: &Node| !matches!(node.content, Content::Sequence(..) | Content::Mapping(..));
        // Scalars do not overlap: of those that begin before, only the nearest can reach in.
        let earlier =
            (0..first).rev().find(|&i| is_scalar(&self.nodes[i])).filter(|&i| self.nodes[i].end as usize > from);
        let here = first..self.nodes.partition_point(|node| (node.start as usize) < to);
        earlier
            .into_iter()
            .chain(here)
            .filter(|&i| is_scalar(&self.nodes[i]) && self.nodes[i].end > self.nodes[i].start)
            .map(|i| {
                let Node { start, end, .. } = self.nodes[i];
                let node = u32::try_from(i).unwrap_or(0);
                let (path, key) = self.path_of(node);
                let left_out = self.dropped.binary_search(&node).is_ok();
                let (path, key) = (path.or_else(|| left_out.then(|| self.path_near(start))), key || left_out);
                Placed { from: (start as usize).max(from) - from, to: (end as usize).min(to) - from, path, key }
            })
            .collect()
    }

    /// The path of a node by its position in the file, aliases not followed; for a key the path of its value.
    fn path_of(&self, node: NodeId) -> (Option<Vec<Step>>, bool) {
        let mut path = Vec::new();
        let mut at = 0;
        while at != node {
            let (first, count, pairs) = match self.nodes.get(at as usize).map(|n| n.content) {
                Some(Content::Sequence(first, count)) => (first as usize, count as usize, false),
                Some(Content::Mapping(first, count)) => (first as usize, count as usize, true),
                _ => return (None, false),
            };
            let children = &self.children[first..first + count];
            let Some(position) = children.partition_point(|child| *child <= node).checked_sub(1) else {
                return (None, false);
            };
            at = children[position];
            if pairs {
                path.push(Step::Key(self.text(children[position & !1]).to_owned()));
                if position & 1 == 0 {
                    return if at == node { (Some(path), true) } else { (None, false) };
                }
            } else {
                path.push(Step::Index(position));
            }
        }
        (Some(path), false)
    }

    /// The path of the first node from this byte on. For a key that the tree left out, or its value: the path that it would
    /// have.
    pub(super) fn path_near(&self, start: u32) -> Vec<Step> {
        let node = self.nodes.partition_point(|node| node.start < start);
        let Some((wanted, id)) = self.nodes.get(node).zip(u32::try_from(node).ok()) else { return Vec::new() };
        if let (Some(path), _) = self.path_of(id) {
            return path;
        }
        let mut path = Vec::new();
        let mut at = 0;
        loop {
            let (first, count, pairs) = match self.nodes.get(at).map(|n| n.content) {
                Some(Content::Sequence(first, count)) => (first as usize, count as usize, false),
                Some(Content::Mapping(first, count)) => (first as usize, count as usize, true),
                _ => return path,
            };
            let children = &self.children[first..first + count];
            let position = children.partition_point(|child| *child <= id).checked_sub(1);
            let Some(position) = position.filter(|at| self.nodes[children[*at] as usize].end > wanted.start) else {
                let key = [id, id.saturating_sub(1)].into_iter().find(|key| self.dropped.binary_search(key).is_ok());
                let is_text = |key: &NodeId| matches!(self.content(*key), Content::Borrowed(..) | Content::Owned(_));
                path.extend(key.filter(|key| pairs && is_text(key)).map(|key| Step::Key(self.text(key).to_owned())));
                return path;
            };
            path.push(if pairs {
                Step::Key(self.text(children[position & !1]).to_owned())
            } else {
                Step::Index(position)
            });
            at = children[position] as usize;
        }
    }

    fn slice(&self, from: u32, to: u32) -> &str {
        // Ranges come from the parser, which saw the whole as valid UTF-8: they begin and end between characters.
        self.source.as_ref().get(from as usize..to as usize).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or("")
    }

    fn starts(&self) -> &[u32] {
        self.lines.get_or_init(|| {
            let bytes = self.source.as_ref().iter().zip(0u32..);
            let mut starts = vec![0];
            starts.extend(bytes.filter(|(byte, _)| **byte == b'\n').map(|(_, at)| at + 1));
            starts
        })
    }

    /// From 0.
    fn line_of(&self, offset: u32) -> usize {
        self.starts().partition_point(|start| *start <= offset).saturating_sub(1)
    }

    fn line_range(&self, line: usize) -> (u32, u32) {
        let end = u32::try_from(self.source.as_ref().len()).unwrap_or(u32::MAX);
        let from = self.starts().get(line).copied().unwrap_or(end);
        let to = self.starts().get(line + 1).map_or(end, |next| next - 1).max(from);
        let text = self.slice(from, to);
        (from, to - u32::from(text.ends_with('\r')))
    }
}

/// At most `width` bytes of `line` with `column` (from 1) in it, the bytes left out before, and whether some were after.
fn window(line: &str, column: usize, width: usize) -> (&str, usize, bool) {
    if line.len() <= width {
        return (line, 0, false);
    }
    let at = line.char_indices().nth(column.saturating_sub(1)).map_or(line.len(), |(at, _)| at);
    let mut from = at.saturating_sub(width / 3).min(line.len() - width);
    while !line.is_char_boundary(from) {
        from += 1;
    }
    let mut to = (from + width).min(line.len());
    while !line.is_char_boundary(to) {
        to -= 1;
    }
    (&line[from..to], from, to < line.len())
}
