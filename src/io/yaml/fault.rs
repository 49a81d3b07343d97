//! A fault that ends a parse, or a problem in a file that parsed: message, position and path.

/// A position: from 1, in characters; `length` ends with the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
    /// Characters.
    pub length: usize,
}

/// One step of a path from the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list, from 0.
    Index(usize),
}

/// One fault, at one position. Lines and columns count from 1, columns and length in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The message for a person, without the position.
    pub message: String,
    /// The position, and its length within the line.
    pub mark: Mark,
    /// The same as an offset in bytes.
    pub offset: usize,
    /// The path of the value, as far as the tree has it.
    pub path: Vec<Step>,
}
