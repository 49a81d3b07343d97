"""The tokenizer.json of a model: read, checked, found to have changed, compiled, dumped and compared."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from aigw.config import ConfigErrors, fingerprint, read_text
from aigw.control.file.copies import TokenizerCopies
from aigw.control.file.declare import declared
from aigw.control.file.diff import compare
from aigw.control.file.dump import document
from aigw.control.publish.compile_tiers import model_entry
from aigw.control.store.rows import Row
from aigw.entities import KINDS, LlmModel

GOLDEN = Path(__file__).parents[2] / "golden" / "tokenizers"
TEXT = "models: {m: {upstreams: [{url: 'http://h/v1'}], tokenizer: {file: words.json}}}"


class Sealer:
    """Seals nothing: the file has no secrets."""

    def hash_key(self, key: bytes) -> bytes:
        return key

    def seal(self, secret: bytes) -> str:
        raise AssertionError(secret)


def put(folder: Path, name: str) -> bytes:
    content = (GOLDEN / f"{name}.json").read_bytes()
    (folder / "words.json").write_bytes(content)
    return content


def rows(folder: Path, text: str = TEXT) -> dict[str, list[Row]]:
    file = read_text("f.yaml", text.encode(), {}, folder)
    return {kind: [] for kind in KINDS} | {"models": [entity.row() for entity in declared(file, Sealer(), 0)]}


def wrong(folder: Path, content: bytes) -> str:
    (folder / "words.json").write_bytes(content)
    with pytest.raises(ConfigErrors) as errors:
        read_text("f.yaml", TEXT.encode(), {}, folder)
    return str(errors.value)


@pytest.mark.parametrize(("name", "per_byte"), [("byte_level", 1), ("sentence_piece", 2), ("word_piece", 12)])
def test_a_file_is_compiled_by_the_hash_of_its_content(tmp_path: Path, name: str, per_byte: int) -> None:
    digest = hashlib.sha256(put(tmp_path, name)).hexdigest()
    (row,) = rows(tmp_path)["models"]
    model = LlmModel.model_validate(row.body)
    assert model_entry(1, model, [1])["tokenizer"] == {"file": {"name": digest, "per_byte": per_byte}}
    assert model.spec.tokenizer == {"file": "words.json"}
    assert document(rows(tmp_path), 0, None)["models"]["m"]["tokenizer"] == {"file": "words.json"}


def test_changed_content_is_another_configuration(tmp_path: Path) -> None:
    put(tmp_path, "byte_level")
    before, old = fingerprint("f.yaml", TEXT.encode(), {}, tmp_path), rows(tmp_path)
    hash_before = read_text("f.yaml", TEXT.encode(), {}, tmp_path).hash
    assert before.files == (tmp_path / "words.json",)
    put(tmp_path, "unigram")
    after = fingerprint("f.yaml", TEXT.encode(), {}, tmp_path)
    assert (after.hash, after.files) == (before.hash, before.files) and after.whole != before.whole
    assert read_text("f.yaml", TEXT.encode(), {}, tmp_path).hash != hash_before
    (differs,) = compare(rows(tmp_path), None, old, None).differs
    assert {path for path, *_ in differs.fields} >= {"tokenizer_file.sha256"}


@pytest.mark.parametrize(
    "text",
    [
        "tokenizer: {file: words.json}",
        "tokenizer:\n  file: 'words.json'",
        "tokenizer:  # ours\n  # see below\n  file:\n    words.json",
        'tokenizer: {"file": "words.json"}',
        "tokenizer: {file: ${FOLDER}/words.json}",
    ],
)
def test_files_are_watched_however_they_are_written(tmp_path: Path, text: str) -> None:
    found = fingerprint(
        "f.yaml", f"input_bounds: {{file: 65536}}\nkey: ${{file:key}}\n{text}\n".encode(), {"FOLDER": "."}, tmp_path
    )
    assert {file.resolve() for file in found.files} == {tmp_path / "key", tmp_path / "words.json"}


def test_files_that_cannot_count_are_refused_at_their_place(tmp_path: Path) -> None:
    place = "f.yaml:1:67: models.m.tokenizer.file: the file 'words.json' "
    model: Any = json.loads((GOLDEN / "byte_level.json").read_bytes())
    model["model"]["dropout"] = 0.5
    for content, words in [
        (b"", "is no tokenizer.json: EOF while parsing"),
        (b"[]", "is no tokenizer.json"),
        (b"{}", "is no tokenizer.json"),
        (b'{"model": ' * 100_000, "is no tokenizer.json"),
        (
            json.dumps(model).encode(),
            "drops merges by chance (model.dropout), so its counts differ: set dropout to null",
        ),
    ]:
        found = wrong(tmp_path, content)
        assert place + words in found, found
        assert "name the tokenizer.json of the model's repository, or write bytes" in found
    with (tmp_path / "words.json").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(ConfigErrors) as errors:
        read_text("f.yaml", TEXT.encode(), {}, tmp_path)
    assert f"{place}cannot be read: larger than 67108864 bytes" in str(errors.value)


def test_copy_serves_with_a_warning_where_a_start_finds_no_file(tmp_path: Path) -> None:
    content = put(tmp_path, "byte_level")
    (tmp_path / "words.json").rename(tmp_path / "copy")
    for copies in ({}, {("other", "words.json"): tmp_path / "copy"}, {("m", "other.json"): tmp_path / "copy"}):
        with pytest.raises(ConfigErrors):
            read_text("f.yaml", TEXT.encode(), {}, tmp_path, copies=copies)
    file = read_text("f.yaml", TEXT.encode(), {}, tmp_path, copies={("m", "words.json"): tmp_path / "copy"})
    assert file.tokenizers["m"].content == content
    (warning,) = file.warnings
    assert "is gone: its copy in the data folder serves; put the file back" in warning.message


def test_copies_are_kept_until_nothing_names_them(tmp_path: Path) -> None:
    put(tmp_path, "byte_level")
    file = read_text("f.yaml", TEXT.encode(), {}, tmp_path)
    copies, name = TokenizerCopies(tmp_path), file.tokenizers["m"].sha256
    assert copies.missing([name]) and not copies.missing([])
    copies.keep(file.tokenizers)
    copies.keep(file.tokenizers)
    assert not copies.missing([name]) and copies.text(name).encode() == file.tokenizers["m"].content
    assert [one.name for one in (tmp_path / "tokenizers").iterdir()] == [name]
    assert (tmp_path / "tokenizers").stat().st_mode & 0o777 == 0o700
    (tmp_path / "tokenizers" / "draft").write_text("of a process that died")
    copies.sweep([name])
    assert [one.name for one in (tmp_path / "tokenizers").iterdir()] == [name]
    copies.sweep([])
    assert list((tmp_path / "tokenizers").iterdir()) == []
