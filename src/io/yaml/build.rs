//! The parser's events -> the tree, under the limits.
//!
//! One pass. Collections are open frames; a closed frame puts its children side by side in the arena. Problems do not stop
//! the pass, so one run reports all of them: an invalid key is left out together with its value. An alias counts as all values
//! of its target, so an alias bomb ends at the limit and not in memory.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Span, Tag, options};

use super::bounds::{Bounds, MAX_ALIASED, MAX_DEPTH, MAX_PROBLEMS};
use super::document::{Content, Document, Node, NodeId};
use super::fault::Fault;
use super::{scalar, unclosed};

/// Keys that are compared with each other.
const FEW: usize = 6;
/// The setting of [`Bounds`].
const SETTING: &str = "AIGW_MAX_CONFIG_BYTES";
const TAB: &str = "a tab cannot indent: use spaces";

/// The fault that ended the pass: a message and a byte range.
pub(super) type Stop = (String, Range<usize>);
/// A fault that did not end the pass: a message, a byte range, and the position of the first occurrence for duplicates.
pub(super) type Problem = (String, Range<usize>, Option<u32>);

/// Parse a text within the largest bounds. The error is the fault that ended the pass.
pub fn load<S: AsRef<[u8]>>(source: S) -> Result<Document<S>, Fault> {
    load_within(source, Bounds::MOST)
}

/// Parse a file within these bounds. The error is the fault that ended the pass.
pub fn load_within<S: AsRef<[u8]>>(source: S, bounds: Bounds) -> Result<Document<S>, Fault> {
    let (tree, stop) = match decode(source.as_ref(), bounds.bytes) {
        Ok(text) => tree(text, bounds.nodes),
        Err(stop) => (Tree::default(), Some(stop)),
    };
    finish(source, tree, stop)
}

/// The tree of a text, as far as it parses, and the fault that ended the pass.
pub(super) fn tree(text: &str, nodes: usize) -> (Tree, Option<Stop>) {
    let mut builder = Builder::new(text, nodes);
    let stop = builder.run().err();
    (builder.tree, stop)
}

/// A tree and its bytes as a document.
pub(super) fn finish<S: AsRef<[u8]>>(source: S, tree: Tree, stop: Option<Stop>) -> Result<Document<S>, Fault> {
    let Tree { nodes, children, owned, mut dropped, problems, marked } = tree;
    dropped.sort_unstable();
    let mut document =
        Document { source, nodes, children, owned, dropped, problems: Vec::new(), lines: OnceLock::new(), marked };
    let mark = |at: Range<usize>| document.mark_of(offset(at.start), offset(at.end));
    if let Some((message, at)) = stop {
        return Err(Fault { message, offset: at.start, mark: mark(at), path: Vec::new() });
    }
    let problems = problems.into_iter().map(|(message, at, first)| {
        let first = first.map(|at| format!(": first in line {}", document.mark_of(at, at).line));
        let path = document.path_near(offset(at.start));
        Fault { message: message + &first.unwrap_or_default(), offset: at.start, mark: mark(at), path }
    });
    document.problems = problems.collect();
    document.problems.sort_by_key(|fault| (fault.mark.line, fault.mark.column));
    Ok(document)
}

fn decode(bytes: &[u8], most: usize) -> Result<&str, Stop> {
    let stop = |message: &str, at: usize| Err((message.to_owned(), at..at + 1));
    if bytes.len() > most {
        return stop(&format!("larger than {most} bytes: {SETTING} sets the bound"), 0);
    }
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => {
            stop("the file is UTF-16 or UTF-32: save it as UTF-8", 0)
        }
        [0xef, 0xbb, 0xbf, ..] => stop("the file begins with a byte-order mark: save it as UTF-8 without one", 0),
        _ => std::str::from_utf8(bytes).or_else(|error| stop("not valid UTF-8", error.valid_up_to())),
    }
}

#[derive(Default)]
pub(super) struct Tree {
    pub nodes: Vec<Node>,
    pub children: Vec<NodeId>,
    pub owned: Vec<Box<str>>,
    pub dropped: Vec<NodeId>,
    pub problems: Vec<Problem>,
    /// Nodes with an anchor or a tag, in order.
    pub marked: Vec<NodeId>,
}

/// An open list or mapping.
struct Frame {
    node: NodeId,
    mapping: bool,
    anchor: usize,
    /// Where its children begin among those that wait.
    waiting: usize,
    /// Values counted before it.
    counted: usize,
    /// Levels below it.
    height: usize,
}

/// A finished node that aliases may name: the node, the values it stands for, its levels.
type Anchored = (NodeId, usize, usize);

struct Builder<'text> {
    text: &'text str,
    tree: Tree,
    frames: Vec<Frame>,
    waiting: Vec<NodeId>,
    anchors: HashMap<usize, Anchored>,
    counted: usize,
    aliased: usize,
    /// Most keys and values.
    most: usize,
}

impl<'text> Builder<'text> {
    fn new(text: &'text str, most: usize) -> Self {
        let (frames, waiting, anchors) = (Vec::new(), Vec::new(), HashMap::new());
        Self { text, tree: Tree::default(), frames, waiting, anchors, counted: 0, aliased: 0, most }
    }

    /// Starts of the open collections, the innermost first. An error at `at` may come before the events of the innermost ones: then
    /// their brackets follow the start of a collection that is still empty.
    fn open_starts(&self, at: usize) -> impl Iterator<Item = usize> {
        let start = |frame: &Frame| self.tree.nodes[frame.node as usize].start as usize;
        let empty = self.frames.last().filter(|frame| frame.node as usize + 1 == self.tree.nodes.len()).map(start);
        let mut unheard = Vec::new();
        for at in empty.map_or(0..0, |start| start + 1..at) {
            match self.text.as_bytes().get(at) {
                Some(b'[' | b'{') => unheard.push(at),
                Some(b']' | b'}') => drop(unheard.pop()),
                _ => {}
            }
        }
        unheard.into_iter().rev().chain(self.frames.iter().rev().map(start))
    }

    fn run(&mut self) -> Result<(), Stop> {
        // One more than our limit, so our error comes first.
        let options = options! { flow_nesting_limit: MAX_DEPTH + 1, block_nesting_limit: MAX_DEPTH + 1 };
        let mut documents = 0;
        for next in Parser::new_from_str_with_options(self.text, options) {
            let (event, span) = next.map_err(|error| {
                let at = error.marker().byte_offset().unwrap_or(0);
                let message = bracket_inside(self.text, at).unwrap_or_else(|| words(error.kind()));
                if message == TAB {
                    let at = tab_near(self.text.as_bytes(), at);
                    return (message, at..at + 1);
                }
                unclosed::found(self.text, error.kind(), at, self.open_starts(at)).unwrap_or((message, at..at + 1))
            })?;
            match event {
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(("a second document: the configuration is one".to_owned(), bytes(span)));
                    }
                }
                Event::Scalar(text, style, anchor, tag) => {
                    self.mark(anchor != 0 || tag.is_some());
                    self.no_tag(tag.as_deref(), span, true);
                    let string = tag.is_some() || style != ScalarStyle::Plain;
                    self.scalar(text, string, anchor, span)?;
                }
                Event::SequenceStart(_, anchor, tag) => {
                    self.mark(anchor != 0);
                    self.no_tag(tag.as_deref(), span, false);
                    self.open(false, anchor, span)?;
                }
                Event::MappingStart(_, anchor, tag) => {
                    self.mark(anchor != 0);
                    self.no_tag(tag.as_deref(), span, false);
                    self.open(true, anchor, span)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(span),
                Event::Alias(anchor) => self.alias(anchor, span)?,
                _ => {}
            }
        }
        if self.tree.nodes.is_empty() {
            self.node(Content::Null, 0..0)?;
        }
        Ok(())
    }

    fn node(&mut self, content: Content, at: Range<usize>) -> Result<NodeId, Stop> {
        let id = self.tree.nodes.len();
        self.counted += 1;
        if self.counted > self.most {
            return Err((format!("more than {} keys and values: {SETTING} sets the bound", self.most), at));
        }
        // Lookups bisect positions, so they must not go back, but the parser's positions of empty values may.
        let start = offset(at.start).max(self.tree.nodes.last().map_or(0, |node| node.start));
        self.tree.nodes.push(Node { start, end: offset(at.end).max(start), content });
        Ok(offset(id))
    }

    /// Notes the next node.
    fn mark(&mut self, is_marked: bool) {
        if is_marked {
            self.tree.marked.push(offset(self.tree.nodes.len()));
        }
    }

    fn scalar(&mut self, text: Cow<'_, str>, string: bool, anchor: usize, span: Span) -> Result<(), Stop> {
        let resolved = if string { None } else { scalar::resolve(&text).unwrap_or_else(|()| self.too_large(span)) };
        let content = match (resolved, text) {
            (Some(content), _) => content,
            (None, Cow::Borrowed(text)) => match self.range_of(text) {
                Some(Range { start, end }) => Content::Borrowed(offset(start), offset(end)),
                None => self.keep(text.into()),
            },
            (None, Cow::Owned(text)) => self.keep(text.into()),
        };
        let id = self.node(content, bytes(span))?;
        self.anchored(anchor, (id, 1, 0));
        self.waiting.push(id);
        Ok(())
    }

    fn too_large(&mut self, span: Span) -> Option<Content> {
        self.problem("a number beyond 64 bits: write \"...\" around it if it is text", bytes(span));
        None
    }

    fn keep(&mut self, text: Box<str>) -> Content {
        self.tree.owned.push(text);
        Content::Owned(offset(self.tree.owned.len() - 1))
    }

    /// The position of a part of the file.
    fn range_of(&self, part: &str) -> Option<Range<usize>> {
        let start = (part.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize)?;
        let range = start..start + part.len();
        (self.text.get(range.clone()) == Some(part)).then_some(range)
    }

    fn open(&mut self, mapping: bool, anchor: usize, span: Span) -> Result<(), Stop> {
        if self.frames.len() >= MAX_DEPTH {
            return Err((too_deep(), bytes(span)));
        }
        let counted = self.counted;
        let node = self.node(Content::Null, bytes(span))?;
        let waiting = self.waiting.len() + 1;
        self.waiting.push(node);
        self.frames.push(Frame { node, mapping, anchor, waiting, counted, height: 0 });
        Ok(())
    }

    fn close(&mut self, span: Span) {
        let Some(frame) = self.frames.pop() else { return };
        let from = frame.waiting.min(self.waiting.len());
        let first = offset(self.tree.children.len());
        if frame.mapping && !self.distinct(&self.waiting[from..]) {
            let items = self.waiting.split_off(from);
            let items = self.pairs(&items);
            self.tree.children.extend(items);
        } else {
            self.tree.children.extend(self.waiting.drain(from..));
        }
        let count = offset(self.tree.children.len()) - first;
        let node = &mut self.tree.nodes[frame.node as usize];
        node.content = if frame.mapping { Content::Mapping(first, count) } else { Content::Sequence(first, count) };
        node.end = node.end.max(offset(bytes(span).end));
        let height = frame.height + 1;
        if let Some(parent) = self.frames.last_mut() {
            parent.height = parent.height.max(height);
        }
        self.anchored(frame.anchor, (frame.node, self.counted - frame.counted, height));
    }

    /// Whether a few keys, as nearly every mapping has, are all valid and different.
    fn distinct(&self, items: &[NodeId]) -> bool {
        let keys = || items.iter().step_by(2).map(|key| self.key(self.tree.nodes[*key as usize].content));
        items.len() <= 2 * FEW
            && keys().enumerate().all(|(at, key)| key.is_ok() && keys().take(at).all(|before| before != key))
    }

    /// The keys and values without invalid and repeated keys.
    fn pairs(&mut self, items: &[NodeId]) -> Vec<NodeId> {
        let mut keys = Vec::with_capacity(items.len() / 2);
        let mut problems: Vec<Problem> = Vec::new();
        for (position, pair) in items.chunks_exact(2).enumerate() {
            let node = self.tree.nodes[pair[0] as usize];
            match self.key(node.content) {
                Ok(text) => keys.push((text, position, node)),
                Err(message) => problems.push((message.to_owned(), range(node), None)),
            }
        }
        keys.sort_unstable_by_key(|(text, position, _)| (*text, *position));
        let mut kept = vec![false; items.len() / 2];
        let mut before: Option<(&str, Node)> = None;
        for (text, position, node) in keys {
            match before {
                Some((same, first)) if same == text => {
                    problems.push((format!("the key '{}' stands twice", short(text)), range(node), Some(first.start)));
                }
                _ => {
                    kept[position] = true;
                    before = Some((text, node));
                }
            }
        }
        let room = MAX_PROBLEMS.saturating_sub(self.tree.problems.len());
        self.tree.problems.extend(problems.into_iter().take(room));
        let left_out = items.chunks_exact(2).zip(&kept).filter(|(_, kept)| !**kept);
        self.tree.dropped.extend(left_out.map(|(pair, _)| pair[0]));
        let pairs = items.chunks_exact(2).zip(kept).filter(|(_, kept)| *kept);
        pairs.flat_map(|(pair, _)| pair.iter().copied()).collect()
    }

    fn key(&self, content: Content) -> Result<&str, &'static str> {
        match content {
            Content::Borrowed(from, to) => Ok(self.text.get(from as usize..to as usize).unwrap_or("")),
            Content::Owned(index) => Ok(&self.tree.owned[index as usize]),
            Content::Sequence(..) | Content::Mapping(..) | Content::Alias(_) => Err("a key must be a plain word"),
            Content::Null => Err("a key is missing or null: a key must be text"),
            Content::Bool(_) | Content::Int(_) | Content::Float(_) => {
                Err("a key must be text: write \"...\" around it")
            }
        }
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Stop> {
        let Some(&(target, size, height)) = self.anchors.get(&anchor) else {
            return Err(("an alias inside its own target".to_owned(), bytes(span)));
        };
        if self.frames.len() + height > MAX_DEPTH {
            return Err((too_deep(), bytes(span)));
        }
        self.aliased += size;
        self.counted += size;
        if self.aliased > MAX_ALIASED {
            return Err((format!("aliases stand for more than {MAX_ALIASED} keys and values"), bytes(span)));
        }
        if let Some(parent) = self.frames.last_mut() {
            parent.height = parent.height.max(height);
        }
        let id = self.node(Content::Alias(target), bytes(span))?;
        self.waiting.push(id);
        Ok(())
    }

    fn anchored(&mut self, anchor: usize, what: Anchored) {
        if anchor != 0 {
            self.anchors.insert(anchor, what);
        }
    }

    /// `!!str` means the same as quotes; every other tag is refused.
    fn no_tag(&mut self, tag: Option<&Tag>, span: Span, scalar: bool) {
        let Some(tag) = tag.filter(|tag| !(scalar && tag.is_yaml_core_schema_tag("str"))) else { return };
        let at = span.tag_span().map_or(bytes(span), bytes);
        self.problem(&format!("tags are not supported: {}", short(&tag.original())), at);
    }

    fn problem(&mut self, message: &str, at: Range<usize>) {
        if self.tree.problems.len() < MAX_PROBLEMS {
            self.tree.problems.push((message.to_owned(), at, None));
        }
    }
}

/// The parser's error, reworded for the author of a configuration.
fn words(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart => TAB.to_owned(),
        ErrorKind::RecursionLimitExceeded => too_deep(),
        ErrorKind::UnknownAnchor => "an alias to an anchor that is not defined before it".to_owned(),
        ErrorKind::BomInsideDocument => "a byte-order mark in the middle of the file: remove it".to_owned(),
        ErrorKind::UnclosedQuotedScalar => "a quote is not closed".to_owned(),
        ErrorKind::UnclosedFlowCollection { open } => format!("the bracket '{open}' is not closed"),
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => {
            format!("the bracket '{open}' is not closed before '{close}'")
        }
        ErrorKind::MisplacedFlowCollectionEnd => "a closing bracket that nothing opens".to_owned(),
        ErrorKind::MappingValueNotAllowed => {
            "a second ': ' in one value: write \"...\" around a text that holds ': ', or check the indentation"
                .to_owned()
        }
        ErrorKind::ExpectedBlockMappingKey => "the indentation fits none of the lines above".to_owned(),
        other => other.to_string(),
    }
}

/// The words for an opening bracket right behind a text, which ends the text in a list or map within brackets.
fn bracket_inside(text: &str, at: usize) -> Option<String> {
    let bytes = text.as_bytes();
    let bracket = *bytes.get(at).filter(|byte| matches!(byte, b'[' | b'{'))? as char;
    let before = *bytes.get(at.checked_sub(1)?)?;
    let is_text = !before.is_ascii_whitespace() && !b",[]{}:$\"'".contains(&before);
    is_text.then(|| format!("the bracket '{bracket}' inside a text: write \"...\" around the text"))
}

/// The tab that stopped the parser, which reports a position after it or at the end of the previous line.
fn tab_near(text: &[u8], at: usize) -> usize {
    let before = text.iter().take(at).rev().take_while(|byte| **byte == b'\t').count();
    let after = text.iter().skip(at).position(|byte| *byte == b'\t');
    if before > 0 { at - before } else { at + after.unwrap_or(0) }
}

fn too_deep() -> String {
    format!("nested deeper than {MAX_DEPTH}")
}

fn short(text: &str) -> String {
    let mut cut: String = text.chars().take(64).collect();
    if cut.len() < text.len() {
        cut.push_str("...");
    }
    cut
}

fn range(node: Node) -> Range<usize> {
    node.start as usize..node.end as usize
}

fn bytes(span: Span) -> Range<usize> {
    span.byte_range().unwrap_or(0..0)
}

/// Files are bounded far below 4 GiB.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
