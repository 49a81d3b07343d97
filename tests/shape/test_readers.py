"""Each fence can fail: planted faults for the scanner of Rust, the graphs, the count of prose and the list of allowed faults."""

from pathlib import Path

import pytest

from tests.shape import ratchet, rust
from tests.shape.cycles import all_cycles, cycles, folded
from tests.shape.test_fences import has_story, knows_python, python_functions
from tests.support.prose import prose

TRICKY = """\
//! Story with "a quote and { a brace.
/* one /* two { */ fn hidden() { */
fn quoted() { let a = "}{ \\" // no comment"; let b = '{'; let c = '\\''; let d: &'static str = r#"fn x() { " "#; }
fn spread<'a, T: Fn(u8) -> [u8; { 2 }]>(
    value: &'a T,
) -> Vec<u8>
where
    T: Clone,
{
    // }
    vec![]
}
trait Shape { fn declared(&self) -> usize; }
const fn last() {}
"""


def test_the_scanner_sees_through_strings_and_comments() -> None:
    code, comments = rust.split(TRICKY)
    assert code.count("\n") == comments.count("\n") == TRICKY.count("\n") and len(code) == len(TRICKY)
    assert "hidden" in comments and "hidden" not in code and "no comment" not in comments
    assert "static" in code and "Story" not in code
    assert [(one.name, one.line, one.lines) for one in rust.functions(TRICKY)] == [
        ("quoted", 3, 1),
        ("spread", 4, 9),
        ("last", 14, 1),
    ]


def test_a_long_function_is_measured_in_both_languages() -> None:
    body = "    x();\n" * 70
    (found,) = rust.functions(f"impl A {{\nfn long() {{\n{body}}}\n}}\n")
    assert (found.name, found.lines) == ("long", 72)
    assert list(python_functions(f"class A:\n  def long(self):\n{body}")) == [("long", 71)]


def test_items_for_tests_are_left_out() -> None:
    text = "fn a() {}\n#[cfg(test)]\nmod tests { use super::b; }\n#[cfg(test)]\nmod more;\nfn c() {}\n"
    code = rust.without_tests(text)
    assert "super" not in code and "more" not in code and "fn c" in code and "fn a" in code


def test_inherent_impls_are_told_from_others() -> None:
    text = """
    impl<'a, T: Fn(u8) -> u8> Holder<'a, T> where T: Clone { fn f() -> impl Iterator<Item = u8> { g(|x: u8| x) } }
    impl Clone for Holder<'_, u8> {}
    impl<T> From<Vec<T>> for Other {}
    unsafe impl Send for Other {}
    impl super::place::Third { fn g(one: impl Clone) {} }
    #[cfg(test)]
    mod tests { impl Fourth { fn h() {} } }
    """
    assert rust.inherent_impls(text) == ["Holder", "super::place::Third"]


def tree(folder: Path, **files: str) -> rust.Crate:
    """The crate of files whose names have `__` for a slash."""
    for name, text in files.items():
        file = folder / f"{name.replace('__', '/')}.rs"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return rust.crate(folder / "lib.rs", folder)


def test_a_cycle_of_files_is_found_through_super_and_raw_names(tmp_path: Path) -> None:
    modules = tree(
        tmp_path,
        lib="pub mod r#match;\nmod low;\n",
        match__mod="pub mod left;\npub mod right;\n",
        match__left="use super::right::Right;\npub struct Left;\n",
        match__right="use crate::r#match::left::Left;\npub struct Right;\n",
        low="#[cfg(test)]\nmod tests { use crate::r#match::left::Left; }\npub struct Low;\n",
    )
    assert list(all_cycles(rust.edges(modules))) == [
        "files match::left match::right",
        "parts of match: left right",
    ]


def test_a_cycle_of_stages_is_found_where_no_two_files_have_one(tmp_path: Path) -> None:
    modules = tree(
        tmp_path,
        lib="mod a;\nmod b;\n",
        a__mod="mod one;\nmod two;\npub use one::One;\n",
        a__one="pub struct One;\n",
        a__two="fn f() { crate::b::go() }\n",
        b="use crate::a::One;\npub fn go() {}\n",
    )
    assert list(all_cycles(rust.edges(modules))) == ["parts of root: a b"]


def test_re_exports_make_no_edge_and_are_seen_through(tmp_path: Path) -> None:
    modules = tree(
        tmp_path,
        lib="mod a;\nmod b;\npub use b::B;\n",
        a__mod="mod inner;\npub use inner::*;\n",
        a__inner="use super::super::b::{self, B};\npub struct A;\n",
        b="pub struct B;\n",
    )
    graph = rust.edges(modules)
    assert graph["a", "inner"] == {("b",)} and graph[("a",)] == set() and all_cycles(graph) == {}
    (tmp_path / "b.rs").write_text("use crate::a::A;\npub struct B;\n")
    assert rust.edges(rust.crate(tmp_path / "lib.rs", tmp_path))[("b",)] == {("a", "inner")}


def test_a_path_without_an_import_is_an_edge(tmp_path: Path) -> None:
    modules = tree(
        tmp_path,
        lib="mod a;\n",
        a__mod="mod child;\npub struct A;\nfn f() -> child::C { child::make() }\n",
        a__child="pub struct C;\nimpl C { fn f(_: super::A) {} }\n",
    )
    assert list(all_cycles(rust.edges(modules))) == ["files a a::child"]


def test_a_type_with_methods_in_two_files_is_found(tmp_path: Path) -> None:
    modules = tree(
        tmp_path,
        lib="mod a;\nmod b;\n",
        a__mod="mod more;\npub struct Wide;\nimpl Wide {}\nimpl Clone for Wide {}\n",
        a__more="use super::Wide;\nimpl Wide {}\n",
        b="pub struct More;\nimpl More {}\nimpl std::fmt::Debug for crate::a::Wide {}\n",
    )
    assert rust.split_impls(modules) == {"a/mod.rs::Wide": 2}


def test_two_types_of_one_name_are_two(tmp_path: Path) -> None:
    files = {"a": "pub struct Same;\nimpl Same {}\n", "b": "pub struct Same;\nimpl Same {}\n"}
    assert rust.split_impls(tree(tmp_path, lib="mod a;\nmod b;\n", **files)) == {}


def test_cycles_are_found_and_folded() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a", "d"}}) == [{"b", "c"}]
    graph = {("x", "a"): {("y", "b")}, ("y", "b"): set(), ("y", "c"): {("x", "d")}, ("x", "d"): set()}
    assert folded(graph, ()) == {"x": {"y"}, "y": {"x"}} and cycles(graph) == []


def test_a_module_without_a_story_is_found() -> None:
    assert has_story("a.rs", "//! Keeps keys.\n") and not has_story("a.rs", "use std::fs;\n//! Late.\n")
    assert has_story("a.py", '#!/bin/python\n"""Keeps keys."""\n') and has_story("a.py", "")
    assert not has_story("a.py", 'import os\n\nx = """no story"""\n')


def test_pyo3_is_seen_in_code_only() -> None:
    assert knows_python("use pyo3::prelude::*;\n") and not knows_python("// pyo3\nfn a() {}\n")


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("a.rs", "/// Keeps what is held,\n// and what was taken.\nfn f() {}\n", 2),
        ("a.py", '"""What the caller has sent."""\nx = "what is code"  # what has changed\n', 2),
        ("a.md", "What comes here: what\nmust stay.\n\n```sh\necho what is code\n```\n", 2),
        ("b.md", "Say what to do, and what else. Somewhat is fine.\n", 0),
    ],
)
def test_what_clauses_are_counted_in_prose_only(name: str, text: str, count: int, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert len(prose(tmp_path / name).clauses) == count


def test_the_ratchet_only_tightens() -> None:
    assert ratchet.judge({"a": 3, "gone": 1}, {"a": 2}) == ({}, {"a": 2})
    assert ratchet.judge({"a": 3}, {"a": 4, "new": 1}) == ({"a": 4, "new": 1}, {"a": 3})


def test_the_ratchet_fails_on_growth_and_on_slack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "ratchet.toml"
    file.write_text(ratchet.written({"cycles": {"a": 2}, "split_impls": {"n": 9}}))
    monkeypatch.setattr(ratchet, "FILE", file)
    monkeypatch.delenv("AIGW_RATCHET", raising=False)
    ratchet.hold("cycles", {"a": 2}, "cut")
    for found in ({"a": 3}, {"a": 2, "b": 1}, {"a": 1}, {}):
        with pytest.raises(AssertionError):
            ratchet.hold("cycles", found, "cut")
    monkeypatch.setenv("AIGW_RATCHET", "write")
    ratchet.hold("cycles", {"a": 1}, "cut")
    with pytest.raises(AssertionError):
        ratchet.hold("cycles", {"a": 2}, "cut")
    assert file.read_text() == ratchet.written({"cycles": {"a": 1}, "split_impls": {"n": 9}})
