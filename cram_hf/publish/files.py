"""Which files of a model folder belong on the Hub, and in what form."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from cram_hf.card import public, public_command, with_metadata
from cram_hf.card_bare import PACKED, RECORDED, bare_card, read_record
from cram_hf.card_text import PLACE
from cram_hf.results import TOKEN, Results

CARD, RESULTS, INDEX, REPORT = "README.md", "results.json", "model.safetensors.index.json", "report.html"
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", INDEX, PACKED)
SETTINGS = ("config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json")
TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "*.model", "chat_template.jinja"),
)
LINKED = re.compile(r"\]\(([\w.-]+\.(?:png|svg|html))\)")  # pictures and pages beside the card
TEXTS = (".json", ".md", ".txt", ".jinja", ".html")


@dataclass(frozen=True)
class Folder:
    """A model folder, read and found fit for the Hub.

    Args:
        path (`Path`): where it lies.
        files (`dict[str, Path | bytes]`): name on the Hub → the file, or its content where that differs from the file.
    """

    path: Path
    files: dict[str, Path | bytes]

    @property
    def sizes(self) -> dict[str, int]:
        """The bytes of each file as they will be sent."""
        return {
            name: len(what) if isinstance(what, bytes) else what.stat().st_size for name, what in self.files.items()
        }


def read_folder(
    path: str | os.PathLike[str],
    repo_id: str,
    *,
    include: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
    token: str | None = None,
) -> Folder:
    """Returns what a push of this folder would upload: weights, settings, tokenizer, card, records, picture.

    Nothing is written. A folder without a `README.md` gets a plain card. In the card a `report.html` that lies beside
    it gets a link, and the place holder for the path becomes `repo_id`; in `results.json`, `pruning.json` and
    `tuning.json` absolute paths are cut to their last part.

    Args:
        path (`str` or `os.PathLike`): folder of a run, of an export, or of `cram-hf prune` or `cram-hf pack`.
        repo_id (`str`): name on the Hub.
        include (`Sequence[str]`, *optional*): names or patterns of more files, relative to the folder.
        metadata (`Mapping[str, Any]`, *optional*): entries of the card's metadata to set, e.g. `license`.
        token (`str`, *optional*): an access token that must be in none of the files.

    Raises:
        ValueError: this is no model folder, or a file is damaged, missing or holds an access token.
    """
    folder = Path(path)
    _check_folder(folder)
    names = [file.name for file in sorted(folder.iterdir()) if file.is_file()]
    found: dict[str, Path | bytes] = {
        name: folder / name for name in names if matches(name, (*WEIGHTS, *SETTINGS, *TOKENIZER))
    }
    _check_weights(folder, list(found))
    card = _card(folder, repo_id, metadata or {})
    found |= {name: folder / name for name in LINKED.findall(card) if name in names}
    found |= {CARD: card.encode(), **_records(folder, names)}
    found |= _included(folder, include)
    _check_tokens(found, token)
    return Folder(folder, dict(sorted(found.items())))


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a file name fits one of the patterns."""
    return any(fnmatch(name, pattern) for pattern in patterns)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise ValueError(f"{folder} {what}: give the folder of a run, an export, cram-hf prune or cram-hf pack.")
    if not (folder / "config.json").exists():
        inside = sorted(str(file.parent) for file in folder.glob("*/config.json"))
        hint = f" Near it: {', '.join(inside[:5])}." if inside else ""
        raise ValueError(f"{folder} holds no model, for there is no config.json in it.{hint}")


def _check_weights(folder: Path, names: Sequence[str]) -> None:
    """Raises `ValueError` unless there are weights, every part of them, each with a sound header."""
    weights = [name for name in names if name.endswith(".safetensors")]
    if not weights:
        other = ", ".join(sorted(file.name for file in folder.glob("*.bin") if file.name != "training_args.bin"))
        hint = f"only {other}; load it and save it again" if other else "save the model with save_pretrained"
        raise ValueError(f"{folder} holds no weights as safetensors: {hint}.")
    if INDEX in names:
        parts = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
        lacking = sorted(parts - set(weights))
        if lacking:
            raise ValueError(f"{folder} lacks {', '.join(lacking)}, which {INDEX} names. Save the model again.")
    for name in weights:
        try:
            with safe_open(folder / name, framework="numpy"):
                pass
        except SafetensorError as error:
            raise ValueError(f"{folder / name} is damaged: {error}. Save the model again.") from error


def _card(folder: Path, repo_id: str, metadata: Mapping[str, Any]) -> str:
    """Returns the card's text, from the folder or made anew, with its metadata parsed once."""
    file = folder / CARD
    text = file.read_text(encoding="utf-8") if file.exists() else bare_card(folder)
    if (folder / REPORT).exists() and f"({REPORT})" not in text:
        text += f"\n[Report]({REPORT}): the curve, the layers, the training and all scores; download it to read it.\n"
    try:
        return with_metadata(text, metadata).replace(PLACE, repo_id)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _records(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    found: dict[str, Any] = {}
    if RESULTS in names:
        found[RESULTS] = Results.load(folder / RESULTS).document()
    found |= {name: read_record(folder / name) for name in RECORDED if name in names}
    for document in found.values():
        document["command"] = public_command(document["command"])
    return {
        name: (json.dumps(public(document), indent=1, ensure_ascii=False) + "\n").encode()
        for name, document in found.items()
    }


def _included(folder: Path, include: Sequence[str]) -> dict[str, Path | bytes]:
    found: dict[str, Path | bytes] = {}
    for pattern in include:
        files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
        matching = {name: file for name, file in files.items() if fnmatch(name, pattern)}
        if not matching:
            raise ValueError(f"--include {pattern}: {folder} holds no such file. A pattern is e.g. 'eval_*.json'.")
        found |= matching
    return found


def _check_tokens(files: Mapping[str, Path | bytes], token: str | None) -> None:
    """Raises `ValueError` for a text that holds something like an access token, or a file with `token` in it."""
    for name, what in files.items():
        if name.endswith(".safetensors"):
            continue
        content = what if isinstance(what, bytes) else what.read_bytes()
        known = token is not None and token.encode() in content
        if known or (name.endswith(TEXTS) and TOKEN.search(content.decode("utf-8", "replace"))):
            raise ValueError(f"{name} holds an access token and was not uploaded: take it out, and revoke the token.")
