"""The model card of a folder that no run has scored: what its files tell, and no claim beyond that."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from cram_hf import card_text as text
from cram_hf.card import compressions, is_hub_id, method_of, public, public_command, tags_of
from cram_hf.table import percent

PACKED, PRUNING = "model.packed.safetensors", "pruning.json"
NOT_SCORED = "No score was recorded with it."
RECORDED = (
    *("model", "spec", "method", "sparsity", "model_sparsity", "parameters", "compressible_parameters"),
    *("texts", "seed", "command", "versions", "created"),
)
# The end of a class's name → the class that loads it, and the Hub's word for the task.
HEADS = {
    "ForQuestionAnswering": ("AutoModelForQuestionAnswering", "question-answering"),
    "ForSequenceClassification": ("AutoModelForSequenceClassification", "text-classification"),
    "ForTokenClassification": ("AutoModelForTokenClassification", "token-classification"),
    "ForMaskedLM": ("AutoModelForMaskedLM", "fill-mask"),
    "ForCausalLM": ("AutoModelForCausalLM", "text-generation"),
}


def bare_card(
    folder: Path, *, architecture: str | None = None, base_model: str | None = None, trained_for: Sequence[str] = ()
) -> str:
    """Returns a card as the text of a `README.md` from `config.json` and, where it is there, `pruning.json`.

    Args:
        folder (`Path`): a model folder, dense, pruned or packed.
        architecture (`str`, *optional*): name of the model's class; that of `config.json` if not given.
        base_model (`str`, *optional*): what training started from; metadata only if it is a name on the Hub.
        trained_for (`Sequence[str]`, *optional*): the compressors, if it was trained with CrAM.
    """
    record = public(read_record(folder / PRUNING)) if (folder / PRUNING).exists() else {}
    architecture = architecture or (_json(folder / "config.json").get("architectures") or ["Model"])[0]
    auto_class, tag = head_of(architecture)
    packed = (folder / PACKED).exists()
    spec = record.get("spec")
    with_cram = bool(compressions(_training(record)))
    source = base_model or record.get("model", "")
    data = ModelCardData(
        base_model=source if is_hub_id(source) else None,
        library_name=None if packed else "transformers",
        pipeline_tag=tag,
        tags=[
            *(["cram", "prunable"] if trained_for else ["cram"] if with_cram else []),
            *(tags_of(spec) if spec else []),
        ]
        or None,
    )
    parts = [
        f"# {text.PLACE}\n\n{_what(architecture, record, trained_for)}",
        text.unpacking() if packed else text.loading(auto_class, tag or ""),
        *([] if packed else [text.pruning(auto_class, "topk:0.9" if spec else "topk:0.5", "", already=spec)]),
        *([_made(record)] if record else []),
        text.ENDING,
    ]
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"))


def head_of(architecture: str) -> tuple[str, str | None]:
    """Returns the Auto class of a class of transformers and the Hub's word for its task, `None` if it has none."""
    return next((found for end, found in HEADS.items() if architecture.endswith(end)), ("AutoModel", None))


def read_record(path: Path) -> dict[str, Any]:
    """Returns the `pruning.json` that `cram-hf prune` wrote. Raises `ValueError` if it is another file."""
    record = _json(path)
    lacking = [name for name in RECORDED if name not in record]
    if lacking:
        raise ValueError(f"{path}: not the record of cram-hf prune, it lacks {', '.join(lacking)}; move it away")
    return record


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: holds a {type(found).__name__}, not an object")
    return found


def _what(architecture: str, record: dict[str, Any], trained_for: Sequence[str]) -> str:
    if record:
        return (
            f"A {architecture}, {record['model']} **pruned in one shot: `{record['spec']}`** by {_steps(record)}. "
            f"{percent(record['sparsity'])} of the {record['compressible_parameters']:,} compressible weights and "
            f"{percent(record['model_sparsity'])} of all {record['parameters']:,} parameters are zero. {NOT_SCORED}"
        )
    method = f"trained {text.WITH_CRAM} Trained for {', '.join(f'`{spec}`' for spec in trained_for)}."
    return f"A {architecture}{' ' + method if trained_for else '.'} {NOT_SCORED}"


def _training(record: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the training that were given, as far as `pruning.json` tells."""
    return {name: value for name, value in (record.get("trained") or {}).items() if value is not None}


def _steps(record: dict[str, Any]) -> str:
    return ", ".join([record["method"], *(name for name in ("permute", "refit", "repair") if record.get(name))])


def _made(record: dict[str, Any]) -> str:
    """Returns the section on how the model was pruned."""
    data = [f"Data: {record['texts']} texts of {record['data']}, without labels"] if record.get("data") else []
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    trained = [f"Trained by: {method}"] if (method := method_of(_training(record))) else []
    facts = [*trained, f"Seed: {record['seed']}", *data, f"Versions: {versions}", f"Date: {record['created'][:10]}"]
    return f"## Pruning\n\n```bash\n{public_command(record['command'])}\n```\n\n" + "\n".join(
        f"- {fact}" for fact in facts
    )
