//! A radix tree from path prefixes to values.
//!
//! In: byte prefixes, each with a value made on first sight. Out: for a path, every value whose prefix the path begins
//! with, shortest first. Invariant: a walk touches at most one node per byte of the path, however many prefixes exist.

/// Prefix -> value.
#[derive(Debug, Clone)]
pub(super) struct Trie<T> {
    nodes: Vec<Node<T>>,
}

#[derive(Debug, Clone)]
struct Node<T> {
    /// Bytes on the edge that leads here.
    label: Box<[u8]>,
    value: Option<T>,
    /// First byte of each child's label, sorted, and the child's index.
    children: Vec<(u8, usize)>,
}

impl<T: Default> Trie<T> {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node { label: Box::default(), value: None, children: Vec::new() }] }
    }

    /// The value of exactly this prefix, made if absent.
    pub(super) fn entry(&mut self, prefix: &[u8]) -> &mut T {
        let (mut at, mut rest) = (0, prefix);
        while let Some(&first) = rest.first() {
            at = match self.nodes[at].children.binary_search_by_key(&first, |c| c.0) {
                Err(at_child) => {
                    let child = self.push(rest.into());
                    self.nodes[at].children.insert(at_child, (first, child));
                    rest = &[];
                    child
                }
                Ok(at_child) => {
                    let child = self.nodes[at].children[at_child].1;
                    let shared = self.nodes[child].label.iter().zip(rest).take_while(|(a, b)| a == b).count();
                    if shared < self.nodes[child].label.len() {
                        self.split(child, shared);
                    }
                    rest = &rest[shared..];
                    child
                }
            };
        }
        self.nodes[at].value.get_or_insert_default()
    }

    fn push(&mut self, label: Box<[u8]>) -> usize {
        self.nodes.push(Node { label, value: None, children: Vec::new() });
        self.nodes.len() - 1
    }

    /// Cuts a node's label after `keep` bytes; its value and children move to a new child.
    fn split(&mut self, at: usize, keep: usize) {
        let tail = self.push(self.nodes[at].label[keep..].into());
        self.nodes[tail].value = self.nodes[at].value.take();
        self.nodes[tail].children = std::mem::take(&mut self.nodes[at].children);
        let first = self.nodes[tail].label[0];
        let node = &mut self.nodes[at];
        node.label = node.label[..keep].into();
        node.children.push((first, tail));
    }

    /// Every value, to be finished after the last entry.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.nodes.iter_mut().filter_map(|node| node.value.as_mut())
    }
}

impl<T> Trie<T> {
    /// Calls `visit` for every value whose prefix `path` begins with, shortest prefix first.
    pub(super) fn walk<'a>(&'a self, path: &[u8], mut visit: impl FnMut(&'a T)) {
        let mut rest = path;
        let mut node = &self.nodes[0];
        loop {
            if let Some(value) = &node.value {
                visit(value);
            }
            let Some(&first) = rest.first() else { return };
            let Ok(at_child) = node.children.binary_search_by_key(&first, |c| c.0) else { return };
            node = &self.nodes[node.children[at_child].1];
            match rest.strip_prefix(&*node.label) {
                Some(after) => rest = after,
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_exactly_the_prefixes(prefixes in prop::collection::vec("[ab/]{0,6}", 0..30), path in "[ab/]{0,8}") {
            let mut trie: Trie<String> = Trie::new();
            for prefix in &prefixes {
                *trie.entry(prefix.as_bytes()) = prefix.clone();
            }
            let mut found = Vec::new();
            trie.walk(path.as_bytes(), |value| found.push(value.clone()));
            let mut wanted: Vec<String> = prefixes.into_iter().filter(|p| path.starts_with(p.as_str())).collect();
            wanted.sort_by_key(String::len);
            wanted.dedup();
            prop_assert_eq!(found, wanted);
        }
    }
}
