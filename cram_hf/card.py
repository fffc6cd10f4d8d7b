"""The model card of a run, or of one exported compression, as the Hub wants it; made from the results alone."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from cram_hf import card_text as text
from cram_hf.results import DENSE, Results, Row
from cram_hf.table import percent, share_of_dense, shown_metrics, table

# An absolute path, also inside a flag or a list: it may name a user or a machine, so only its last part is shown.
ABSOLUTE = re.compile(r"""(?<![^\s=,'"(\[])(file://)?(~\w*/|/|[A-Za-z]:[\\/])[^\s,'")\]]*""")
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def card(
    results: Results,
    *,
    export_spec: str | None = None,
    base_model: str | None = None,
    dataset: str | None = None,
    picture: str | None = None,
    auto_class: str = "AutoModelForQuestionAnswering",
    pipeline_tag: str = "question-answering",
    license: str | None = None,
    language: str | None = None,
) -> str:
    """Returns the card as the text of a `README.md`: metadata between `---` lines, then Markdown.

    No access token and no absolute path gets in: of a path only the last part is shown. The `model-index` of the
    dense model has its scores and the main score after each compression; that of an export has its own row alone.

    Args:
        results (`Results`): the run.
        export_spec (`str`, *optional*): the compression baked into the weights, e.g. `topk:0.8`. Dense if not given.
        base_model (`str`, *optional*): what training started from. Metadata only if it is a name on the Hub.
        dataset (`str`, *optional*): the data set's name on the Hub; leave it out for local files.
        picture (`str`, *optional*): file name of the picture, if it lies beside the card.
        auto_class, pipeline_tag (`str`): the class that loads the model, and the Hub's word for the task.
        license, language (`str`, *optional*): e.g. `apache-2.0` and `en`. Nothing is claimed if not given.
    """
    base = base_model if base_model and is_hub_id(base_model) else None
    model = base or _last_part(results.model)
    title = ", ".join(filter(None, [f"{model} on {results.task}", results.label, export_spec]))
    data = _metadata(results, title, base, dataset, export_spec, pipeline_tag)
    data["license"], data["language"] = license, language
    parts = [
        f"# {title}\n\n{_what(results, model, export_spec)}",
        _results(results, picture),
        text.loading(auto_class, pipeline_tag),
        text.pruning(auto_class, _example(results, export_spec), _selection(results), already=export_spec),
        _training(results),
        text.ENDING,
    ]
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"))


def _metadata(
    results: Results, title: str, base: str | None, dataset: str | None, export_spec: str | None, pipeline_tag: str
) -> ModelCardData:
    scores = _eval_results(results, export_spec, dataset, pipeline_tag)
    return ModelCardData(
        base_model=base,
        base_model_relation="finetune" if base else None,
        datasets=[dataset] if dataset else None,
        library_name="transformers",
        metrics=_scores(results),
        pipeline_tag=pipeline_tag,
        tags=_tags(results, export_spec) or None,
        model_name=title if scores else None,
        eval_results=scores or None,
    )


def is_hub_id(name: str) -> bool:
    """Whether `name` can be a model on the Hub, `name` or `owner/name`, and is nothing on this disk."""
    return HUB_ID.fullmatch(name) is not None and not Path(name).exists()


def with_metadata(text: str, metadata: Mapping[str, Any]) -> str:
    """Returns a card with these entries in its metadata: `tags` beside its own, others in the place of its own.

    Raises:
        ValueError: the card's metadata cannot be read.
    """
    try:
        card = ModelCard(text)
    except Exception as error:  # of YAML, and of whatever a strange model-index runs into
        raise ValueError(f"the card's metadata cannot be read: {' '.join(str(error).split())}") from error
    given = {name: value for name, value in metadata.items() if value}
    if "tags" in given:
        given["tags"] = list(dict.fromkeys([*(card.data.get("tags") or []), *given["tags"]]))
    for name, value in given.items():
        setattr(card.data, name, value)
    return str(card) if given else text


def public(value: Any) -> Any:
    """Returns `value` with every absolute path in its texts cut to the last part; nothing else changes."""
    if isinstance(value, dict):
        return {key: public(item) for key, item in value.items()}
    if isinstance(value, list):
        return [public(item) for item in value]
    if not isinstance(value, str):
        return value
    head, equals, tail = value.partition("=") if value.startswith("-") else ("", "", value)
    if ABSOLUTE.match(tail):  # as a whole: a path may hold blanks
        return f"{head}{equals}{_last_part(tail)}"
    return ABSOLUTE.sub(lambda found: _last_part(found[0]), value)


def public_command(command: str) -> str:
    """Returns a shell's command with every absolute path cut to the last part."""
    return shlex.join(public(shlex.split(command)))


def _last_part(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def _tags(results: Results, export_spec: str | None) -> list[str]:
    method = ["cram"] if compressions(results.config) else []
    if export_spec is None:
        return [*method, "prunable"] if method else []
    return [*method, *tags_of(export_spec)]


def tags_of(spec: str) -> list[str]:
    """Returns the Hub's tags for what a compression did: `pruned`, `sparse` and the pattern, e.g. `2:4`."""
    words = [word.split(":") for word in spec.split("+")]
    kinds = {"topk": lambda w: "unstructured", "nm": lambda w: ":".join(w[1:]), "quantize": lambda w: f"{w[1]}-bit"}
    pruned = ["pruned", "sparse"] if any(word[0] != "quantize" for word in words) else []
    return [*pruned, *(kinds[word[0]](word) for word in words)]


def _scores(results: Results) -> list[str]:
    """The metrics as the Hub knows them: a loss is none."""
    return [name for name in shown_metrics(results) if name != "loss"]


def _eval_results(results: Results, export_spec: str | None, dataset: str | None, task: str) -> list[EvalResult]:
    """Returns the dense scores and the main score of each compression, or all scores of the exported row."""
    source = str(results.data.get("evaluation", {}).get("source", results.task))
    name = _last_part(source) if re.search(r"\.\w+$", source) else public(source)  # of a file without its folder
    whole = export_spec or DENSE
    rows = [row for row in results.rows if export_spec is None or row.spec == whole]
    return [
        EvalResult(
            task_type=task,
            dataset_type=dataset or "local",
            dataset_name=dataset or name,
            metric_type=metric,
            metric_value=round(value, 4),
            metric_name=f"{metric}, {row.spec}",
        )
        for row in rows
        for metric in (_scores(results) if row.spec == whole else [results.main_metric])
        if (value := row.metrics.get(metric)) is not None
    ]


def _what(results: Results, model: str, export_spec: str | None) -> str:
    baseline = text.WITH_SAM if results.config.get("compressors") else text.WITHOUT_CRAM
    method = text.WITH_CRAM if compressions(results.config) else baseline
    intro = f"{model} trained on {results.task} {method}"
    if export_spec is None:
        return f"{intro}\n\nThe weights here are **dense**. {text.DENSE}"
    row = results.row(export_spec)
    return (
        f"{intro}\n\nThe weights here are **compressed: `{export_spec}`**, in one shot, with no training afterwards. "
        + (_exported(results, row) if row else text.NOT_SCORED)
    )


def _exported(results: Results, row: Row) -> str:
    score = row.metrics[results.main_metric]
    return (
        f"{percent(row.sparsity)} of the compressible weights and {percent(row.model_sparsity)} of the whole model "
        f"are zero. {results.main_metric}: {'not finite' if score is None else f'{score:.2f}'}, "
        f"{share_of_dense(results, row)} of the dense model's."
    )


def _results(results: Results, picture: str | None) -> str:
    share = results.compressible_parameters / max(1, results.model_parameters)
    counted = (
        f"The compressible weights are {results.compressible_parameters:,} of {results.model_parameters:,} parameters "
        f"({percent(share)}); the others are never touched."
    )
    shown = [f"![Score against sparsity]({picture})"] if picture else []
    return "\n\n".join(["## Results", table(results), *shown, counted, text.WORDS])


def _example(results: Results, already: str | None) -> str:
    """Returns a compression to show in code: the first that was scored and is sparser than what is there already."""
    there = results.row(already) if already else None
    rows = [row for row in results.rows if row.spec != DENSE and (not there or row.sparsity > there.sparsity)]
    return rows[0].spec if rows else "topk:0.9" if already else "topk:0.5"


def _selection(results: Results) -> str:
    """Returns the arguments that choose the same weights as in training, as Python code."""
    found = {word: results.config.get(f"compress_{word}") for word in ("include", "exclude")}
    return "".join(f", {word}={patterns!r}" for word, patterns in found.items() if patterns)


def _training(results: Results) -> str:
    machine, training = results.machine, results.training
    command = public_command(results.command)
    facts = [
        *([f"Method: {method}"] if (method := method_of(results.config)) else []),
        f"Seed: {results.seed}",
        *(f"Data, {part}: {_facts(public(found))}" for part, found in results.data.items()),
        *([f"Training: {_facts(training)}"] if training else []),
        f"Versions: {_facts(results.versions)}",
        *([f"Commit of cram_hf: {results.commit}{', changed' if results.dirty else ''}"] if results.commit else []),
        f"Machine: {machine['gpu'] or machine['cpu']}, {machine['threads']} of {machine['cores']} cores used",
        f"Date: {results.created[:10]}",
    ]
    settings = json.dumps(public(results.config), indent=1, ensure_ascii=False)
    listed = "\n".join(f"- {fact}" for fact in facts)
    return (
        f"## Training\n\n```bash\n{command}\n```\n\n{listed}\n\n"
        f"Arguments that differ from their defaults:\n\n```json\n{settings}\n```"
    )


def compressions(config: Mapping[str, Any]) -> list[str]:
    """Returns what was trained for, from the arguments of a training; nothing for a plain optimizer and for SAM."""
    return [spec for spec in config.get("compressors") or [] if spec != "topk:0"]


def method_of(config: Mapping[str, Any]) -> str:
    """Returns the method in words, from the arguments of a training; empty for a plain optimizer."""
    if not config.get("compressors"):
        return ""
    rho = f", rho {config['rho']}" if "rho" in config else ""
    if not compressions(config):
        return f"SAM{rho}"
    trained = ", ".join(f"`{spec}`" for spec in config["compressors"])
    if len(config["compressors"]) > 1:
        trained = f"one of {trained} drawn for each update"
    kind = "CrAM+ (dense and compressed gradient)" if config.get("plus", True) else "CrAM (compressed gradient)"
    return f"{kind}{rho}, {trained}"


def _facts(found: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in found.items()) if isinstance(found, dict) else str(found)
