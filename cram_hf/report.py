"""What a run leaves behind besides the model: results file, table, picture, card, exports."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from .arguments import CrAMArguments
from .card import card
from .compressors import parse_compressor
from .export import check_free, export
from .loading import ModelArguments
from .plotting import plot
from .provenance import command_line
from .results import Results, Row, is_token_name, write_whole
from .table import table
from .tasks.base import TaskData
from .trainer import CrAMTrainer, unwrapped

logger = logging.getLogger(__name__)


@dataclass
class OutputArguments:
    """What a run leaves behind besides the model."""

    label: str | None = field(
        default=None, metadata={"help": "Name of the run in tables and pictures. Default: the config file's name."}
    )
    baseline: str | None = field(
        default=None,
        metadata={"help": "results.json of another run, shown beside this one in the table and the picture."},
    )
    export: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Compressions to bake into folders of their own, e.g. --export topk:0.8 nm:2:4. May be repeated."
        },
    )
    seeds: list[int] = field(
        default_factory=list,
        metadata={
            "help": "Train once with each of these seeds, in <output_dir>/seed-N, and report mean and standard "
            "deviation. A run that is cut off goes on where it was."
        },
    )

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < len(self.seeds) or len(self.seeds) == 1:
            given = " ".join(map(str, self.seeds))
            raise ValueError(f"--seeds {given}: give two or more different numbers, e.g. --seeds 1 2 3.")


def folder_of(args: CrAMArguments) -> Path:
    """The run's folder; TrainingArguments gives it a name if the user does not."""
    return Path(str(args.output_dir))


def export_folder(args: CrAMArguments, spec: str) -> Path:
    """Where one compression is exported to: `<output_dir>/export/<key>`."""
    return folder_of(args) / "export" / parse_compressor(spec).key


def check_exports(args: CrAMArguments, specs: Sequence[str]) -> None:
    """Refuses words that are no compressors and folders that are taken, before training rather than after."""
    for spec in specs:
        try:
            check_free(export_folder(args, spec))
        except ValueError as error:
            raise ValueError(f"--export: {error}") from None
    if len({parse_compressor(spec).key for spec in specs}) < len(specs):
        raise ValueError(f"--export {' '.join(specs)}: a compression is named twice; name each once.")


def make_results(
    trainer: CrAMTrainer,
    data: TaskData,
    training: dict[str, Any] | None,
    rows: tuple[Row, ...],
    argv: Sequence[str],
    label: str,
    flags: Sequence[Any],
    surroundings: dict[str, Any],
) -> Results:
    """Returns the results of a run.

    Args:
        trainer, data, training, rows, argv, label: what was run, and what came of it.
        flags: the dataclasses that the non-default arguments are taken from; `rho` and `plus` are told anyway.
        surroundings: of `environment`, as it was when the run began.
    """
    start = next(part for part in flags if isinstance(part, ModelArguments))
    model = start.model_name_or_path or f"{trainer.model.config.model_type} from scratch"
    changed = {name: value for part in flags for name, value in _changed(part).items()}
    if trainer.args.compressors:  # what the method is, told in full
        changed |= {"rho": trainer.args.rho, "plus": trainer.args.plus}
    return Results(
        task=data.task,
        label=label,
        model=model,
        model_parameters=sum(p.numel() for p in trainer.model.parameters()),
        compressible_parameters=sum(w.numel() for w in trainer.compressible.values()),
        command=command_line([sys.argv[0], *argv]),
        seed=trainer.args.seed,
        config=changed,
        data=data.report,
        training=training,
        main_metric=data.main_metric,
        rows=rows,
        **surroundings,
    )


def _changed(arguments: Any) -> dict[str, Any]:
    """The fields that differ from their defaults."""
    plain = (str, int, float, bool, list, type(None))
    found = {}
    for f in fields(arguments):
        value = getattr(arguments, f.name)
        default: Callable[[], Any] | Any = f.default_factory() if callable(f.default_factory) else f.default
        if f.init and value != default and isinstance(value, plain) and not is_token_name(f.name):
            found[f.name] = getattr(value, "value", value)  # enumerations are strings too
    return found


def write(results: Results, baseline: Results | None, folder: Path, origin: dict[str, Any] | None) -> None:
    """Writes results.json, the picture and, for a model with an `origin`, the card; prints the table."""
    results.save(folder / "results.json")
    text = table(results, baseline)
    sys.stdout.write(f"\n{text}\n")
    picture: str | None = "curve.png"
    try:
        plot([results], folder / "curve.png", baseline=baseline)
    except ImportError as error:
        picture = None
        logger.warning("No picture: %s", error)
    written = ["results.json", *([picture] if picture else [])]
    if origin is not None:
        write_whole(folder / "README.md", card(results, picture=picture, **origin).encode())
        written.append("README.md")
    sys.stdout.write(f"\nWritten to {folder}: {', '.join(written)}\n")


def export_one(
    trainer: CrAMTrainer,
    tokenizer: PreTrainedTokenizerBase,
    results: Results,
    spec: str,
    origin: dict[str, Any],
) -> None:
    """Bakes one compression into `<output_dir>/export/<key>`."""
    folder, picture = export_folder(trainer.args, spec), folder_of(trainer.args) / "curve.png"
    text = card(results, export_spec=spec, picture=picture.name if picture.exists() else None, **origin)
    model: Any = unwrapped(trainer.model)
    export(model, tokenizer, parse_compressor(spec), folder, weights=trainer.compressible, results=results, card=text)
    if picture.exists():
        shutil.copyfile(picture, folder / picture.name)
    sys.stdout.write(f"Exported {spec}: {folder}\n")
