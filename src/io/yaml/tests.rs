//! Parsed values, reported positions, and refusals: every bound, and bytes that are not YAML.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Write as _;

use super::*;

fn read(text: &str) -> Document<Vec<u8>> {
    load(text.as_bytes().to_vec()).unwrap()
}

fn fault(text: &[u8]) -> (String, usize, usize) {
    match load(text.to_vec()) {
        Err(fault) => (fault.message, fault.mark.line, fault.mark.column),
        Ok(_) => panic!("no fault"),
    }
}

fn problems(text: &str) -> Vec<(String, usize, usize, usize)> {
    let document = read(text);
    document.problems.into_iter().map(|p| (p.message, p.mark.line, p.mark.column, p.mark.length)).collect()
}

fn key(name: &str) -> Step {
    Step::Key(name.to_owned())
}

fn value(text: &str) -> Content {
    let document = read(&format!("a: {text}"));
    document.content(document.find(&[key("a")]).unwrap().1)
}

#[test]
fn scalars_are_those_of_the_core_schema() {
    for text in ["", "~", "null", "Null", "NULL"] {
        assert_eq!(value(text), Content::Null, "{text}");
    }
    assert_eq!((value("true"), value("FALSE")), (Content::Bool(true), Content::Bool(false)));
    for (text, n) in [("0", 0), ("-12", -12), ("+7", 7), ("0x1F", 31), ("0o17", 15), ("9223372036854775807", i64::MAX)]
    {
        assert_eq!(value(text), Content::Int(n), "{text}");
    }
    for (text, n) in [("1.5", 1.5), (".5", 0.5), ("2.", 2.0), ("-1e3", -1000.0), ("1.5E-2", 0.015), ("+0.0", 0.0)] {
        assert_eq!(value(text), Content::Float(n), "{text}");
    }
    for text in [
        "no",
        "yes",
        "on",
        "off",
        "y",
        "12:30",
        "0123",
        "1_000",
        ".inf",
        "-.INF",
        ".nan",
        "1e999",
        "0b1",
        "0o8",
        "0x",
        "+",
        ".",
        "-.",
        "1e",
        "1.2.3",
        "e3",
        "-0x1",
        "'1'",
        "\"true\"",
        "!!str 1",
        "2024-01-01",
        "TRUE1",
        "nUll",
        "00.5",
    ] {
        assert!(matches!(value(text), Content::Borrowed(..)), "{text}: {:?}", value(text));
    }
}

#[test]
fn positions_are_lines_and_columns_from_1() {
    let text = "# π\nlist:\n  - {name: \"é\", on: no}\n  - folded\n    text\n";
    let document = read(text);
    let mark = |path: &[Step]| document.mark(document.find(path).unwrap().1);
    let on = [key("list"), Step::Index(0), key("on")];
    assert_eq!(mark(&on), Mark { line: 3, column: 21, length: 2 });
    assert_eq!(document.mark(document.find(&on).unwrap().0.unwrap()), Mark { line: 3, column: 17, length: 2 });
    assert_eq!(mark(&[key("list"), Step::Index(0)]), Mark { line: 3, column: 5, length: 19 });
    assert_eq!(mark(&[key("list"), Step::Index(1)]), Mark { line: 4, column: 5, length: 6 });
    let folded = document.find(&[key("list"), Step::Index(1)]).unwrap().1;
    assert_eq!((document.text(folded), document.source_text(folded)), ("folded text", "folded\n    text"));
    assert_eq!(document.find(&[key("list"), Step::Index(2)]), None);
    assert_eq!(document.find(&[key("list"), key("0")]), None);
    assert_eq!(document.line(folded), 4);
}

#[test]
fn an_excerpt_names_the_scalars_of_its_line() {
    let document = read("a: {key: 'two\n  lines', other: 1}\nb: |\n  block\nc: x\n");
    let (text, before, cut, scalars) = document.excerpt(2, 1, 200);
    assert_eq!((text, before, cut), ("  lines', other: 1}", 0, false));
    let names: Vec<_> = scalars.iter().map(|p| (p.from, p.to, p.path.as_ref().map(Vec::len), p.key)).collect();
    assert_eq!(names, [(0, 8, Some(2), false), (10, 15, Some(2), true), (17, 18, Some(2), false)]);
    assert_eq!(scalars[0].path, Some(vec![key("a"), key("key")]));
    let (text, .., scalars) = document.excerpt(4, 1, 200);
    assert_eq!((text, scalars.len(), scalars[0].path.clone()), ("  block", 1, Some(vec![key("b")])));
    let long = read(&format!("a: \"{}é{}\"", "x".repeat(1000), "y".repeat(1000)));
    let (text, before, cut, scalars) = long.excerpt(1, 1005, 100);
    assert!(text.len() <= 100 && text.contains('é') && before > 900 && cut && scalars.len() == 1);
}

#[test]
fn parse_reports_all_problems() {
    let text = "a: 1\n'a': 2\nb: !x 3\n1: c\n? [d]\n: e\nf: 99999999999999999999\n~: g\ntrue: h\na: 4\n";
    let found: Vec<_> = problems(text).into_iter().map(|(m, line, column, _)| (line, column, m)).collect();
    let expected = [
        (2, 1, "the key 'a' stands twice: first in line 1"),
        (3, 4, "tags are not supported: !x"),
        (4, 1, "a key must be text: write \"...\" around it"),
        (5, 3, "a key must be a plain word"),
        (7, 4, "a number beyond 64 bits: write \"...\" around it if it is text"),
        (8, 1, "a key is missing or null: a key must be text"),
        (9, 1, "a key must be text: write \"...\" around it"),
        (10, 1, "the key 'a' stands twice: first in line 1"),
    ];
    assert_eq!(found, expected.map(|(line, column, m)| (line, column, m.to_owned())));
    let document = read(text);
    assert_eq!(document.content(document.find(&[key("a")]).unwrap().1), Content::Int(1));
    assert_eq!(document.children(0).len(), 6);
}

#[test]
fn faults_name_their_position_and_repair() {
    for (text, line, column, words) in [
        ("a: b\n\tc: d\n", 2, 1, "a tab cannot indent"),
        ("a: *b\n", 1, 4, "anchor that is not defined"),
        ("a: &b [*b]\n", 1, 8, "an alias inside its own target"),
        ("a: 1\n---\nb: 1\n", 2, 1, "a second document"),
        ("a: b: c\n", 1, 5, "a second ': '"),
        ("a: [1, 2\nb: 1\n", 1, 4, "the bracket '[' is not closed before line 2"),
        ("a: {b: 1\nc: 2\n", 1, 4, "the bracket '{' is not closed before line 2"),
        ("a: 1\nb: {c: {d: [1, 2\ne:\n  x: 1\n", 2, 12, "the bracket '[' is not closed before line 3"),
        ("a: {b: [1, {c: 2}\nd: 3\n", 1, 8, "the bracket '[' is not closed before line 2"),
        ("a: {\n  b: 1,\nc: 2\n", 1, 4, "the bracket '{' is not closed"),
        ("a:\n  - {x: 1, y: 2\n  - {x: 2}\n", 2, 5, "the bracket '{' is not closed"),
        ("a:\n  - [x\nb: 3\n", 2, 5, "the bracket '[' is not closed before line 3"),
        ("a: {b: 1,\n", 1, 4, "the bracket '{' is not closed"),
        ("a: {b: [\nc:\n  - {x: 1}\n", 1, 8, "the bracket '[' is not closed before line 2"),
        ("a:\n  b: {c: [{x: 1},\n  d:\n    e:\n      - {x: 2}\n", 2, 10, "the bracket '[' is not closed before line 3"),
        ("a: [\n  b:\n  - c,\n]\n", 3, 3, "only valid inside a block"),
        ("a: {b: [1, 2}\nd: 3\n", 1, 8, "the bracket '[' is not closed before '}'"),
        ("a: [1, 2]]\n", 1, 10, "a closing bracket that nothing opens"),
        ("a: [\n  1,\n  b: c: d,\n]\n", 3, 7, ""),
        ("a: \"b\n", 1, 4, "a quote is not closed"),
        ("a: 1\nb: 'c\nd: 2\n", 2, 4, "a quote is not closed"),
        ("a: \"b\nc: \"x\"\n", 1, 4, "a quote is not closed: the text goes on to line 2"),
        ("a: 'it''s\nc: 'x'\n", 1, 4, "a quote is not closed: the text goes on to line 2"),
        ("a: {b: \"x \\\" y, c: 1}\nd: \"e\"\n", 1, 8, "a quote is not closed: the text goes on to line 2"),
        ("a: {b: http://[::1]:1/v1, c: d}\n", 1, 15, "the bracket '[' inside a text: write \"...\""),
        ("a: [x{y}]\n", 1, 6, "the bracket '{' inside a text"),
        ("a: 'it's'\n", 1, 8, "after single-quoted"),
    ] {
        let found = fault(text.as_bytes());
        assert!(found.0.contains(words), "{text:?}: {found:?}");
        assert_eq!((found.1, found.2), (line, column), "{text:?}: {found:?}");
    }
    assert!(fault(b"\xef\xbb\xbfa: 1").0.contains("byte-order mark"));
    assert!(fault(b"\xff\xfea\0").0.contains("UTF-16"));
    assert!(fault(b"a\0:\0").0.contains("UTF-16"));
    assert_eq!(fault(b"a: b\nc: \xff\n"), ("not valid UTF-8".to_owned(), 2, 4));
}

#[test]
fn aliases_expand_to_a_bounded_size() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..=10 {
        let items = vec![format!("*a{}", i - 1); 10].join(", ");
        writeln!(bomb, "a{i}: &a{i} [{items}]").unwrap();
    }
    assert!(fault(bomb.as_bytes()).0.contains("aliases stand for more than"));
    let mut chain = "a0: &a0 [x]\n".to_owned();
    for i in 1..100 {
        writeln!(chain, "a{i}: &a{i} [*a{}]", i - 1).unwrap();
    }
    assert_eq!(fault(chain.as_bytes()), ("nested deeper than 64".to_owned(), 64, 12));
    let fine = read("a: &x {k: v}\nb: [*x, *x]\n");
    let inside = fine.find(&[key("b"), Step::Index(1), key("k")]).unwrap().1;
    assert_eq!((fine.text(inside), fine.mark(inside).line), ("v", 1));
    assert_eq!(fine.containing("v").len(), 3);
}

#[test]
fn depth_and_bytes_are_bounded() {
    for opener in ["[", "{a: ", "- "] {
        assert!(fault(opener.repeat(100).as_bytes()).0.contains("nested deeper than 64"), "{opener}");
    }
    let deep = format!("{}1{}", "[".repeat(64), "]".repeat(64));
    assert_eq!(read(&deep).nodes.len(), 65);
    let bounds = Bounds::of(1 << 20);
    let fault = |text: &[u8]| load_within(text, bounds).err().map(|fault| fault.message);
    assert_eq!(fault(&vec![b' '; bounds.bytes]), None);
    assert!(fault(&vec![b' '; bounds.bytes + 1]).unwrap().contains("larger than 1048576 bytes"));
    // A list of n texts has n + 1 nodes.
    assert_eq!(fault(&b"- x\n".repeat(bounds.nodes - 1)), None);
    assert!(fault(&b"- x\n".repeat(bounds.nodes)).unwrap().contains("more than 62500 keys and values"));
}

#[test]
fn nothing_is_null() {
    for text in ["", "# only a comment\n", "---\n"] {
        assert_eq!(read(text).content(0), Content::Null);
    }
}
