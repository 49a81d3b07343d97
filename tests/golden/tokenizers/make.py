"""Makes the tokenizer files of this folder, and the counts in `counts.json` that Hugging Face's Python library gives for them.

Run it with an interpreter that has the package tokenizers (0.23.3 made these): `python tests/golden/tokenizers/make.py`. The library's
Python wheel has another pattern engine than the gateway's build has. The texts are parts of `../scripts.txt`, joined at random.
"""

import json
import random
from pathlib import Path
from typing import Any

from tokenizers import (  # type: ignore[import-not-found]
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

HERE = Path(__file__).parent
LINES = [line for line in (HERE.parent / "scripts.txt").read_text().splitlines() if line]
JOINTS = ["", " ", "\n", "  \n\n", "\t", ", ", "'s", "\u00a0", "\r\n", "1234567", "    "]
TEXTS = 400


def byte_level(*, add_prefix_space: bool, pattern: str | None = None) -> Any:
    """As GPT-2; with a pattern as Llama 3."""
    made = Tokenizer(models.BPE(ignore_merges=pattern is not None))
    spelled = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=pattern is None)
    split = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern is not None else []
    made.pre_tokenizer = pre_tokenizers.Sequence([*split, spelled]) if split else spelled
    made.normalizer = normalizers.NFC() if pattern is not None else None
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        LINES,
        trainers.BpeTrainer(
            vocab_size=900,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<|endoftext|>", "<|eot_id|>"],
            show_progress=False,
        ),
    )
    made.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    made.enable_truncation(8)
    made.enable_padding(length=64)
    return made


def sentence_piece() -> Any:
    """As Llama 2: no pre-tokenizer, a sign for blanks, bytes for unknown characters."""
    made = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    # Words are split for the training alone.
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    made.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    latin = [line for line in LINES if line.isascii()]
    made.train_from_iterator(latin, trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False))
    made.pre_tokenizer = None
    loaded = json.loads(made.to_str())
    loaded["added_tokens"] = [token for token in loaded["added_tokens"] if token["id"] < 3]
    return Tokenizer.from_str(json.dumps(loaded))


def unigram() -> Any:
    """As T5."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    made.train_from_iterator(
        LINES,
        trainers.UnigramTrainer(
            vocab_size=1200, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
        ),
    )
    return made


def word_piece() -> Any:
    """As BERT."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(
        LINES, trainers.WordPieceTrainer(vocab_size=1500, special_tokens=special, show_progress=False)
    )
    made.add_tokens([AddedToken("gateway", single_word=True), AddedToken("  ", normalized=False)])
    return made


LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def texts() -> list[str]:
    """Parts of lines, joined. None has a special token, which the gateway counts as text where that is more."""
    drawn, found = random.Random(7), list(LINES)
    while len(found) < TEXTS:
        parts = []
        for _ in range(drawn.randint(1, 4)):
            line = drawn.choice(LINES)
            begin = drawn.randrange(len(line))
            parts += [line[begin : begin + drawn.randint(1, 60)], drawn.choice(JOINTS)]
        found.append("".join(parts))
    return [
        *found,
        "",
        " ",
        "\u2581",
        "a",
        "\ufdfa",
        "\u0390",
        "\u0130",
        "\U0001d160",
        "    x    ",
        "a" * 300,
        "ab " * 200,
    ]


def main() -> None:
    made = {
        "byte_level": byte_level(add_prefix_space=False),
        "byte_level_prefix": byte_level(add_prefix_space=True),
        "byte_level_pattern": byte_level(add_prefix_space=False, pattern=LLAMA_3),
        "sentence_piece": sentence_piece(),
        "unigram": unigram(),
        "word_piece": word_piece(),
    }
    counts: dict[str, list[int]] = {}
    wanted = texts()
    for name, tokenizer in made.items():
        (HERE / f"{name}.json").write_text(tokenizer.to_str())
        whole = Tokenizer.from_file(str(HERE / f"{name}.json"))
        whole.no_truncation()
        whole.no_padding()
        counts[name] = [len(whole.encode(text, add_special_tokens=False).ids) for text in wanted]
    (HERE / "counts.json").write_text(
        json.dumps({"texts": wanted, "counts": counts}, ensure_ascii=False, indent=0) + "\n"
    )


if __name__ == "__main__":
    main()
