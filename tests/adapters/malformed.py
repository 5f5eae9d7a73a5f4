"""Adapters that must be refused, as folders and as archives, each with the reason it must hear."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from serving.adapters.tensors import WEIGHTS
from tests.tiny_model import HIDDEN, adapter_tensors, write_adapter

CONFIG = "adapter_config.json"
Q = "base_model.model.model.layers.0.self_attn.q_proj"
Tensors = dict[str, torch.Tensor]
Change = Callable[[Path], Any]


def configured(**fields: Any) -> Change:
    """A folder whose PEFT configuration has these fields; None removes one."""

    def change(folder: Path) -> None:
        path = folder / CONFIG
        config = json.loads(path.read_text()) | fields
        path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))

    return change


def holding(change_tensors: Callable[[Tensors], Any]) -> Change:
    """A folder whose weights were changed."""

    def change(folder: Path) -> None:
        tensors = adapter_tensors()
        change_tensors(tensors)
        save_file(tensors, folder / WEIGHTS)

    return change


def with_header(change_header: Callable[[dict[str, Any]], Any]) -> Change:
    """A folder whose tensors are not where their header says."""

    def change(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        change_header(header)
        text = json.dumps(header).encode()
        whole = len(text).to_bytes(8, "little") + text + data[8 + length :]
        (folder / WEIGHTS).write_bytes(whole)

    return change


def written(name: str, content: bytes | str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def carded(**fields: Any) -> Change:
    return written("card.json", json.dumps(fields))


def renamed(old: str, new: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        for key in [key for key in tensors if old in key]:
            tensors[key.replace(old, new)] = tensors.pop(key)

    return change


def replaced(tensor: torch.Tensor, side: str = "A") -> Change:
    return holding(lambda tensors: tensors.update({f"{Q}.lora_{side}.weight": tensor}))


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


def longer(folder: Path) -> None:
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"more")


def truncated(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def overlapping(header: dict[str, Any]) -> None:
    first, second = sorted(name for name in header if name.endswith("lora_A.weight"))[:2]
    header[second]["data_offsets"] = header[first]["data_offsets"]


def misfitting(header: dict[str, Any]) -> None:
    header[f"{Q}.lora_A.weight"]["shape"] = [8, HIDDEN * 2]


def large(folder: Path) -> None:
    save_file(adapter_tensors(rank=16) | {"x": torch.zeros(300_000)}, folder / WEIGHTS)


NAN, INFINITE = float("nan"), float("inf")

FOLDERS: dict[str, tuple[Change, str]] = {
    "no config": (
        lambda folder: (folder / CONFIG).unlink(),
        "adapter_config.json is missing: send",
    ),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), f"{WEIGHTS} is missing: send"),
    "cut short": (truncated, f"{WEIGHTS} is cut short: send the whole adapter"),
    "config not JSON": (written(CONFIG, "{r: 8}"), "adapter_config.json is not JSON"),
    "config a list": (written(CONFIG, '[{"r": 8}]'), "is cut short"),
    "config nested": (written(CONFIG, '{"a":' * 100_000 + "}"), "is not JSON"),
    "dora": (configured(use_dora=True), "DoRA is not served by vLLM (use_dora)"),
    "alora": (configured(alora_invocation_tokens=[1]), "activated LoRA (aLoRA)"),
    "full modules": (configured(modules_to_save=["lm_head"]), "(modules_to_save)"),
    "qalora": (configured(use_qalora=True), "QALoRA is not served"),
    "block diagonal": (configured(use_bdlora={"x": 1}), "block-diagonal LoRA is not served"),
    "replicated layers": (configured(layer_replication=[[0, 1]]), "layer replication"),
    "lora bias": (configured(lora_bias=True), "a LoRA bias is not served"),
    "trained tokens": (configured(trainable_token_indices=[3]), "training of single tokens"),
    "arrow": (configured(arrow_config={"top_k": 3}), "Arrow routing is not served"),
    "bias": (configured(bias="all"), "bias is 'all'; train with bias='none'"),
    "another method": (configured(peft_type="IA3"), "peft_type is IA3; only LORA"),
    "pissa": (configured(init_lora_weights="pissa"), "init_lora_weights=pissa changes the base"),
    "rank too large": (configured(r=64), "rank 64 is over this engine's max_lora_rank 16"),
    "rank pattern": (configured(rank_pattern={"q_proj": 32}), "rank 32 is over"),
    "rank pattern a list": (
        configured(rank_pattern=[8]),
        "rank_pattern in adapter_config.json must",
    ),
    "slow pattern": (configured(rank_pattern={"(a+)+": 8}), "rank_pattern takes too long to match"),
    "no pattern": (configured(rank_pattern={"(": 8}), "which is no pattern"),
    "no rank": (configured(r=None), "the rank r must be a positive whole number, not None"),
    "rank zero": (configured(r=0), "the rank r must be a positive whole number, not 0"),
    "rank true": (configured(r=True), "whole number, not True"),
    "no alpha": (configured(lora_alpha=None), "has no lora_alpha"),
    "alpha huge": (configured(lora_alpha=10**400), "lora_alpha must be a positive number"),
    "no targets": (configured(target_modules=None), "target_modules in adapter_config.json must"),
    "absent target": (
        configured(target_modules=["q_proj", "v_proj", "o_proj"]),
        f"target_modules names o_proj, and {WEIGHTS} has no weights for it",
    ),
    "stray target": (configured(target_modules=["q_proj"]), "has weights for v_proj, which"),
    "pickle": (pickled, "adapter_model.bin can run code when loaded"),
    "not safetensors": (written(WEIGHTS, b"\xff" * 64), "is not a safetensors file"),
    "garbled header": (written(WEIGHTS, b"\x08" + b"\0" * 7 + b"notjson!"), "not a safetensors"),
    "trailing bytes": (longer, "its header says"),
    "no tensors": (holding(dict.clear), "holds no tensors"),
    "overlap": (with_header(overlapping), "overlaps another, or leaves a gap"),
    "misfit": (with_header(misfitting), "bytes, not those of F32"),
    "name no text": (
        with_header(lambda h: h.update({"\ud800": h.pop(f"{Q}.lora_A.weight")})),
        "is not a LoRA weight as PEFT names it",
    ),
    "foreign module": (holding(renamed("q_proj", "c_attn")), "target module c_attn is not served"),
    "embedding": (holding(renamed("self_attn.q_proj", "embed_tokens")), "module embed_tokens"),
    "foreign name": (holding(renamed("lora_A", "ia3_l")), "is not a LoRA weight as PEFT names it"),
    "half a pair": (holding(lambda t: t.pop(f"{Q}.lora_B.weight")), "q_proj has no lora_B"),
    "integers": (replaced(torch.zeros(8, HIDDEN).int()), "is I32; vLLM takes F32, F16, BF16"),
    "rank of a tensor": (replaced(torch.zeros(4, HIDDEN)), "which is not of rank 8"),
    "another base's width": (replaced(torch.zeros(8, 32)), "this base model needs 64 features"),
    "another base's depth": (holding(renamed("layers.1", "layers.7")), "beyond the base model's 2"),
    "nan": (replaced(torch.full((8, HIDDEN), NAN)), "holds NaN or infinite weights"),
    "infinite": (replaced(torch.full((HIDDEN, 8), INFINITE), "B"), "holds NaN or infinite weights"),
    "infinite in bf16": (
        replaced(torch.full((8, HIDDEN), INFINITE).bfloat16()),
        "holds NaN or infinite weights",
    ),
    "card not JSON": (written("card.json", "{"), "card.json is not JSON"),
    "card of a list": (written("card.json", "[]"), "card.json is not a JSON object"),
    "card's metrics": (carded(metrics=[1]), "'metrics' in card.json must be an object"),
    "card's nul": (carded(base_model="a\0"), "'base_model' in card.json must be text"),
    "another base": (carded(base_model="llama"), "base_model in card.json is 'llama', and"),
    "another base's weights": (
        carded(base_fingerprint="0" * 64),
        "base_fingerprint in card.json is of another base model",
    ),
    "samples": (written("samples.jsonl", '{"prompt": "x"}\n'), "samples.jsonl needs one"),
    "samples no text": (written("samples.jsonl", b"\xff\xfe"), "samples.jsonl is not UTF-8"),
    "too large": (large, "over the limit of"),
}


def folder_of(change: Change, folder: Path) -> Path:
    """A sound adapter's folder after a change."""
    write_adapter(folder)
    change(folder)
    return folder


Member = tuple[tarfile.TarInfo, bytes]


def sound(folder: Path) -> list[Member]:
    return [
        member(path.name, path.read_bytes()) for path in sorted(write_adapter(folder).iterdir())
    ]


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    return info, data


def tar(*members: Member, format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data) if data else None)
    return buffer.getvalue()


def with_member(*given: Any, **more: Any) -> Callable[[Path], bytes]:
    return lambda folder: tar(*sound(folder), member(*given, **more))


def claims_much(folder: Path) -> bytes:
    info, _ = member(WEIGHTS)
    info.size = 2**40
    return info.tobuf() + b"\0" * 10_240


def long_header(folder: Path) -> bytes:
    """A name that is said to have half a gigabyte, which a careless reader takes into memory."""
    info, _ = member("././@LongLink", kind=tarfile.GNUTYPE_LONGNAME)
    info.size = 2**29
    return gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + b"a" * 10_240)


def many(folder: Path) -> bytes:
    return gzip.compress(tar(*(member(f"{n}.txt") for n in range(1_100))))


ARCHIVES: dict[str, tuple[Callable[[Path], bytes], int, str]] = {
    "traversal": (with_member("../../evil", b"x"), 400, "leads out of the folder"),
    "absolute": (with_member("/etc/cron.d/evil", b"x"), 400, "leads out of the folder"),
    "windows traversal": (with_member("..\\evil", b"x"), 400, "leads out of the folder"),
    "symlink": (
        with_member("x/card.json", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        400,
        "'x/card.json' is a link: pack the file itself",
    ),
    "hard link": (
        with_member("card.json", kind=tarfile.LNKTYPE, link=WEIGHTS),
        400,
        "is a link: pack the file itself",
    ),
    "device": (with_member("zero", kind=tarfile.CHRTYPE), 400, "'zero' is no plain file"),
    "fifo": (with_member("pipe", kind=tarfile.FIFOTYPE), 400, "'pipe' is no plain file"),
    "sparse": (
        lambda folder: tar(member("x", kind=tarfile.GNUTYPE_SPARSE), format=tarfile.GNU_FORMAT),
        400,
        "'x' is no plain file",
    ),
    "twice": (with_member(f"other/{WEIGHTS}", b"x"), 400, f"it holds {WEIGHTS} twice"),
    "pickle": (with_member("adapter_model.bin", b"x"), 400, "adapter_model.bin can run code"),
    "bomb": (lambda folder: gzip.compress(b"\0" * 2**25), 413, "unpacks to more than the limit"),
    "bomb of one file": (
        lambda folder: gzip.compress(tar(member(WEIGHTS, b"\0" * 2**25))),
        413,
        "unpacks to more than the limit",
    ),
    "claims much": (claims_much, 413, "unpacks to more than the limit"),
    "long header": (long_header, 400, "a header is too large"),
    "many members": (many, 400, "it has more than 1000 members"),
    "no archive": (lambda folder: b"PK\x03\x04" + b"x" * 2_000, 400, "it is no tar archive"),
    "cut short": (lambda folder: tar(*sound(folder))[:3_000], 400, "it is no tar archive"),
    "half a gzip": (lambda folder: gzip.compress(tar(*sound(folder)))[:-50], 400, "no tar archive"),
    "empty": (lambda folder: b"", 400, "it is no tar archive"),
    "nothing of an adapter": (
        lambda folder: tar(member("README.md", b"hello")),
        400,
        "adapter_config.json is missing: send the whole adapter",
    ),
}
