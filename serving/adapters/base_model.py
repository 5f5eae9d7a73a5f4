"""The base model that adapters must fit: its name, its shape and its fingerprint.

Read from the model's files, so that it is known where no engine runs. Reads bytes, not tensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from serving.adapters.validation import BaseShape, base_shape

_SAMPLE_BYTES = 1024


class BaseModel:
    """The model that is served as `name`; its files are read when somebody first asks.

    `model` is a folder or a Hugging Face name, or None where no weights are behind the name. Of
    what is not on this machine yet, nothing is known until it is.
    """

    def __init__(self, name: str, model: str | None) -> None:
        self.name = name
        self._model = model

    @property
    def shape(self) -> BaseShape | None:
        """None for a model whose shape is not known or not like Llama's."""
        return self._read[0] if self._read else None

    @property
    def fingerprint(self) -> str | None:
        return self._read[1] if self._read else None

    @property
    def _read(self) -> tuple[BaseShape | None, str | None] | None:
        folder = model_folder(self._model) if self._model else None
        return self._files if folder is not None else None

    @cached_property
    def _files(self) -> tuple[BaseShape | None, str | None]:
        folder = model_folder(self._model or "")
        if folder is None:
            return None, None
        return _shape(json.loads((folder / "config.json").read_text())), fingerprint(folder)


def model_folder(model: str) -> Path | None:
    """Where a model's files are on this machine, given its folder or its Hugging Face name."""
    folder = Path(model)
    if (folder / "config.json").is_file():
        return folder
    if folder.is_absolute() or model.startswith("."):
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(model, "config.json")
    except HFValidationError:
        return None
    return Path(config).parent if isinstance(config, str) else None


def fingerprint(folder: Path) -> str | None:
    """Tells two models apart that have the same shape: a hash over the name, type, shape and some
    bytes of every tensor. None for a model without safetensors.

    Bytes from the middle of each tensor are enough, since training changes them all, and take
    milliseconds where hashing a large model whole takes minutes.
    """
    files = sorted(folder.glob("*.safetensors"))
    digest = hashlib.sha256()
    for line in sorted(line for file in files for line in _tensors(file)):
        digest.update(line)
    return digest.hexdigest() if files else None


def _tensors(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            file.seek(8 + length + begin + max(0, (end - begin - _SAMPLE_BYTES) // 2))
            sample = file.read(min(_SAMPLE_BYTES, end - begin))
            yield f"{name} {entry['dtype']} {entry['shape']} ".encode() + sample


def _shape(config: Mapping[str, Any]) -> BaseShape | None:
    text: Mapping[str, Any] = config.get("text_config") or config
    if any("experts" in key for key in text):  # their modules have shapes of their own
        return None
    try:
        return base_shape(text)
    except KeyError:
        return None
