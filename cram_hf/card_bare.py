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

PACKED, PRUNING, TUNING = "model.packed.safetensors", "pruning.json", "tuning.json"
NOT_SCORED = "No score was recorded with it."
RECORDED = {
    PRUNING: (
        *("model", "spec", "method", "sparsity", "model_sparsity", "parameters", "compressible_parameters"),
        *("texts", "seed", "command", "versions", "created"),
    ),
    TUNING: ("task", "steps", "rows", "trained_parameters", "seed", "command", "versions", "created"),
}
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
    """Returns a card as the text of a `README.md` from `config.json` and, if there, `pruning.json` and `tuning.json`.

    Args:
        folder (`Path`): a model folder, dense, pruned or packed.
        architecture (`str`, *optional*): name of the model's class; that of `config.json` if not given.
        base_model (`str`, *optional*): what training started from; metadata only if it is a name on the Hub.
        trained_for (`Sequence[str]`, *optional*): the compressors, if it was trained with CrAM.
    """
    record, tuning = (public(read_record(folder / name)) if (folder / name).exists() else {} for name in RECORDED)
    architecture = architecture or (_json(folder / "config.json").get("architectures") or ["Model"])[0]
    auto_class, tag = head_of(architecture)
    packed = (folder / PACKED).exists()
    spec, pruned = record.get("spec"), record.get("spec") or record.get("mask_from")
    with_cram = bool(compressions(_training(record)))
    source = base_model or record.get("model") or tuning.get("model", "")
    data = ModelCardData(
        base_model=source if is_hub_id(source) else None,
        library_name=None if packed else "transformers",
        pipeline_tag=tag,
        tags=[
            *(["cram", "prunable"] if trained_for else ["cram"] if with_cram else []),
            *(tags_of(spec) if spec else ["pruned", "sparse"] if pruned else []),
        ]
        or None,
    )
    parts = [
        f"# {text.PLACE}\n\n{_what(architecture, record, trained_for)}",
        text.unpacking() if packed else text.loading(auto_class, tag or ""),
        *([] if packed else [text.pruning(auto_class, "topk:0.9" if pruned else "topk:0.5", "", already=pruned)]),
        *([_tuned(record["tuned"])] if record.get("tuned") else []),
        *([_made(record)] if record else []),
        *([_tuned(tuning)] if tuning else []),
        text.ENDING,
    ]
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"))


def head_of(architecture: str) -> tuple[str, str | None]:
    """Returns the Auto class of a class of transformers and the Hub's word for its task, `None` if it has none."""
    return next((found for end, found in HEADS.items() if architecture.endswith(end)), ("AutoModel", None))


def read_record(path: Path) -> dict[str, Any]:
    """Returns what `cram-hf prune` or `tune` wrote, by the file's name. Raises `ValueError` if it is another file."""
    record = _json(path)
    lacking = [name for name in RECORDED[path.name] if name not in record]
    if lacking:
        writer = "prune" if path.name == PRUNING else "tune"
        raise ValueError(f"{path}: not the record of cram-hf {writer}, it lacks {', '.join(lacking)}; move it away")
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
        which = f"`{record['spec']}`** by" if record["spec"] else f"the zeros of {record['mask_from']}** with"
        return (
            f"A {architecture}, {record['model']} **pruned in one shot: {which} {_steps(record)}. "
            f"{percent(record['sparsity'])} of the {record['compressible_parameters']:,} compressible weights and "
            f"{percent(record['model_sparsity'])} of all {record['parameters']:,} parameters are zero. {NOT_SCORED}"
        )
    method = f"trained {text.WITH_CRAM} Trained for {', '.join(f'`{spec}`' for spec in trained_for)}."
    return f"A {architecture}{' ' + method if trained_for else '.'} {NOT_SCORED}"


def _training(record: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the training that were given, as far as `pruning.json` tells."""
    return {name: value for name, value in (record.get("trained") or {}).items() if value is not None}


def _steps(record: dict[str, Any]) -> str:
    names = [record["method"], *(name for name in ("permute", "refit", "repair") if record.get(name))]
    return ", ".join(filter(None, names)) or "no other change"


def _made(record: dict[str, Any]) -> str:
    """Returns the section on how the model was pruned."""
    data = [f"Data: {record['texts']} texts of {record['data']}, without labels"] if record.get("data") else []
    trained = [f"Trained by: {method}"] if (method := method_of(_training(record))) else []
    return _section("Pruning", record, trained, data)


def _tuned(tuning: dict[str, Any]) -> str:
    """Returns the section on the training after it, which used labels."""
    what = f"{tuning['trained_parameters']:,} biases and scales were trained, {tuning['steps']} steps"
    rows = f"{tuning['rows']:,} rows of {tuning['task']}, **with labels**: a score of this model is no one-shot score"
    return _section("Tuning", tuning, [f"{what} on {rows}"], [])


def _section(title: str, record: dict[str, Any], before: list[str], after: list[str]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    seed, date = f"Seed: {record['seed']}", f"Date: {record['created'][:10]}"
    facts = "\n".join(f"- {fact}" for fact in [*before, seed, *after, f"Versions: {versions}", date])
    return f"## {title}\n\n```bash\n{public_command(record['command'])}\n```\n\n{facts}"
