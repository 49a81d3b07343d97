"""A language model of one layer in the file format of llama.cpp (GGUF 3), with weights by a fixed random number generator.

In: a path. Out: a file of about 150 KB. Its vocabulary is one token per byte and one per letter, as SentencePiece writes it, so it
reads and writes any text. Its texts have no meaning.
"""

import random
import struct
from pathlib import Path
from typing import Final

WIDTH: Final = 32
HIDDEN: Final = 64
CONTEXT: Final = 1024
MAGIC: Final = b"GGUF" + struct.pack("<I", 3)
U32, F32, TEXT, LIST, I32 = 4, 6, 8, 9, 5  # value types of the format
UNKNOWN, CONTROL, NORMAL, BYTE = 2, 3, 1, 6  # token types

TOKENS: Final = (
    [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]
    + [(f"<0x{byte:02X}>", BYTE) for byte in range(256)]
    + [(letter, NORMAL) for letter in "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"]
)


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def many(key: str, kind: int, values: list[bytes]) -> bytes:
    return pair(key, LIST, struct.pack("<IQ", kind, len(values)) + b"".join(values))


def metadata() -> list[bytes]:
    numbers = {
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.block_count": 1,
        "llama.feed_forward_length": HIDDEN,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 4,
        "llama.rope.dimension_count": WIDTH // 4,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    return [
        pair("general.architecture", TEXT, text("llama")),
        *(pair(key, U32, struct.pack("<I", value)) for key, value in numbers.items()),
        pair("llama.attention.layer_norm_rms_epsilon", F32, struct.pack("<f", 1e-5)),
        pair("tokenizer.ggml.model", TEXT, text("llama")),
        many("tokenizer.ggml.tokens", TEXT, [text(token) for token, _ in TOKENS]),
        many("tokenizer.ggml.scores", F32, [struct.pack("<f", -float(place)) for place in range(len(TOKENS))]),
        many("tokenizer.ggml.token_type", I32, [struct.pack("<i", kind) for _, kind in TOKENS]),
    ]


def tensors() -> dict[str, tuple[int, ...]]:
    """Names and sizes; the first size is that of a row."""
    square, norm = (WIDTH, WIDTH), (WIDTH,)
    layer = {
        "attn_norm": norm,
        **dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), square),
        "ffn_norm": norm,
        **dict.fromkeys(("ffn_gate", "ffn_up"), (WIDTH, HIDDEN)),
        "ffn_down": (HIDDEN, WIDTH),
    }
    words = (WIDTH, len(TOKENS))
    whole = {"token_embd": words, "output_norm": norm, "output": words}
    return {f"{name}.weight": size for name, size in whole.items()} | {
        f"blk.0.{name}.weight": size for name, size in layer.items()
    }


def write_model(file: Path) -> None:
    """Write the model. Equal on every machine."""
    chance = random.Random(11)
    about, facts, data = b"", metadata(), b""
    for name, sizes in tensors().items():
        count = 1
        for size in sizes:
            count *= size
        about += text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, 0, len(data))  # 0: 32-bit floats
        values = [1.0] * count if name.endswith("norm.weight") else [chance.gauss(0.0, 0.3) for _ in range(count)]
        data += struct.pack(f"<{count}f", *values)  # sizes are multiples of 32 bytes: nothing to align
    head = MAGIC + struct.pack("<QQ", len(tensors()), len(facts)) + b"".join(facts) + about
    file.write_bytes(head + b"\0" * (-len(head) % 32) + data)
