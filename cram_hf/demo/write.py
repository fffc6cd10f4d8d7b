"""Write the synthetic set to a folder as `train.json` and `dev.json`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from cram_hf.demo.folder import place_folder
from cram_hf.demo.passages import VERSION, generate
from cram_hf.demo.vocabulary import Split

SEED = 1
TRAIN_PASSAGES = 600
DEV_PASSAGES = 80


def write_demo_set(
    folder: Path, seed: int = SEED, train_passages: int = TRAIN_PASSAGES, dev_passages: int = DEV_PASSAGES
) -> dict[str, dict[str, int]]:
    """Write `train.json` and `dev.json` in the official SQuAD v1.1 form, both or neither, and return their counts.

    The same arguments give the same bytes. A folder that already holds these very files is left alone.

    Args:
        folder (`Path`): The folder to make; parents are made too.
        seed (`int`, *optional*, defaults to 1): See `generate`.
        train_passages (`int`, *optional*, defaults to 600): About 4.5 questions each.
        dev_passages (`int`, *optional*, defaults to 80): About 4.5 questions each.

    Returns:
        `dict[str, dict[str, int]]`: `"articles"`, `"passages"` and `"questions"` of `"train"` and of `"dev"`.

    Raises:
        `ValueError`: If a number of passages is below 1, or `folder` holds something else.
    """
    sizes: dict[Split, int] = {"train": train_passages, "dev": dev_passages}
    sets = {split: generate(seed, passages, split) for split, passages in sizes.items()}
    contents = {f"{split}.json": _encode(articles) for split, articles in sets.items()}

    def fill(target: Path) -> None:
        for name, content in contents.items():
            (target / name).write_bytes(content)

    place_folder(folder, {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}, fill)
    return {split: _counts(articles) for split, articles in sets.items()}


def _encode(articles: list[dict[str, Any]]) -> bytes:
    document = {"version": VERSION, "data": articles}
    return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()


def _counts(articles: list[dict[str, Any]]) -> dict[str, int]:
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    questions = sum(len(paragraph["qas"]) for paragraph in paragraphs)
    return {"articles": len(articles), "passages": len(paragraphs), "questions": questions}
