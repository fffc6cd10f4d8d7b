"""One run of a script, top to bottom: parse, build, train, evaluate dense and compressed, write, export."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, set_seed
from transformers.trainer_utils import get_last_checkpoint

from .arguments import CrAMArguments
from .card import card
from .compressors import parse_compressor
from .config import Parser
from .core import compressed
from .export import export
from .plotting import plot
from .provenance import command_line, environment
from .results import Results, Row, write_whole
from .sparsity import measure
from .table import table
from .tasks.base import Task, TaskData
from .trainer import CrAMTrainer, unwrapped

logger = logging.getLogger(__name__)


@dataclass
class ModelArguments:
    """Which model a run starts from."""

    model_name_or_path: str = field(
        metadata={"help": "Model folder, or name on the Hub, e.g. google-bert/bert-base-uncased."}
    )
    config_name: str | None = field(
        default=None, metadata={"help": "Configuration folder or name, if not the model's."}
    )
    tokenizer_name: str | None = field(
        default=None, metadata={"help": "Tokenizer folder or name, if not the model's."}
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Where models from the Hub are kept."})
    model_revision: str = field(default="main", metadata={"help": "Branch, tag or commit of the model on the Hub."})
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Run code that comes with the model. Off unless you trust it."}
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={"help": "eager, sdpa, ...; on a CPU, eager trains a quarter faster when attention dropout is 0."},
    )
    dropout: float | None = field(
        default=None,
        metadata={"help": "Dropout of hidden states and attention, instead of the model's own (BERT: 0.1)."},
    )


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


def main(task: Task, argv: Sequence[str] | None = None) -> int:
    """Runs a script and returns its exit code: 0, or 2 after one clear message for a user's mistake.

    Args:
        task: what is trained on.
        argv: the words after the script's name; those of the process if not given.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        run(task, words)
    except (ValueError, OSError, NotImplementedError, ImportError) as error:
        if os.environ.get("CRAM_HF_TRACEBACK"):
            raise
        sys.stderr.write(f"error: {error}\n(CRAM_HF_TRACEBACK=1 shows where.)\n")
        return 2
    return 0


def run(task: Task, argv: list[str]) -> Results | None:
    """Does what the flags say and returns the results, `None` when nothing was evaluated.

    Raises:
        ValueError, OSError, NotImplementedError, ImportError: a user's mistake, worded for the user.
    """
    parser = Parser((ModelArguments, task.Arguments, CrAMArguments, OutputArguments), description=task.__doc__ or "")
    model_args, task_args, args, output = parser.parse(argv)
    baseline = _check(args, output, argv)
    _set_up_logging(args)
    set_seed(args.seed)
    model, tokenizer = _load(task, model_args)
    data = task.prepare(task_args, tokenizer, args)
    trainer = CrAMTrainer(
        model=model,
        args=args,
        train_dataset=data.train,
        eval_dataset=data.interim.features if data.interim else None,
        compute_metrics=data.interim.compute_metrics if data.interim else None,
        data_collator=data.collator,
        processing_class=tokenizer,
    )
    training = _train(trainer) if args.do_train else None
    results = None
    if data.evaluation:
        rows = tuple(evaluate(trainer, data, folder_of(args)))
        if trainer.is_world_process_zero():
            results = _results(task, trainer, data, training, rows, argv, model_args, output)
            origin = {"base_model": model_args.model_name_or_path, "dataset": task_args.dataset_name}
            _write(results, baseline, folder_of(args), origin)
            for spec in output.export:
                _export(trainer, tokenizer, results, spec, origin)
    if data.predict:
        logits = trainer.predict(data.predict.features, metric_key_prefix="predict").predictions
        if trainer.is_world_process_zero():
            data.predict.write_predictions(logits, folder_of(args), "predict")
    return results


def folder_of(args: CrAMArguments) -> Path:
    """The run's folder; TrainingArguments gives it a name if the user does not."""
    return Path(str(args.output_dir))


# ---- before training ----


def _check(args: CrAMArguments, output: OutputArguments, argv: Sequence[str]) -> Results | None:
    """Refuses what would fail or overwrite later; returns the baseline."""
    folder = folder_of(args)
    for spec in output.export:
        try:
            parse_compressor(spec)
        except ValueError as error:
            raise ValueError(f"--export: {error}") from None
    if args.hub_token:  # Trainer would write it into training_args.bin; huggingface_hub reads the environment
        os.environ["HF_TOKEN"], args.hub_token = args.hub_token, None
    if not (args.do_train or args.do_eval or args.do_predict):
        raise ValueError("Nothing to do: give at least one of --do_train, --do_eval and --do_predict.")
    if (folder / "results.json").exists():
        raise ValueError(
            f"{folder} holds the results of a finished run: choose another --output_dir, or move it away."
        )
    if args.do_train and args.resume_from_checkpoint is None and folder.is_dir() and any(folder.iterdir()):
        checkpoint = get_last_checkpoint(str(folder))
        if checkpoint is None:
            raise ValueError(
                f"{folder} is not empty and holds no checkpoint to go on from: choose another --output_dir."
            )
        args.resume_from_checkpoint = checkpoint
    label = next((Path(word).stem for word in argv[:1] if not word.startswith("-")), None)
    output.label = output.label or label or folder.name
    return Results.load(output.baseline) if output.baseline else None


def _set_up_logging(args: CrAMArguments) -> None:
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S", level=logging.WARNING)
    level = args.get_process_log_level()
    logging.getLogger("cram_hf").setLevel(min(level, logging.INFO) if args.should_log else logging.ERROR)
    transformers.utils.logging.set_verbosity(level)
    if args.resume_from_checkpoint:
        logger.info("Going on from %s", args.resume_from_checkpoint)


def _load(task: Task, args: ModelArguments) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads configuration, tokenizer and model; weights from safetensors only."""
    if args.dropout is not None and not 0 <= args.dropout < 1:
        raise ValueError(f"--dropout {args.dropout}: a share in [0, 1). Type e.g. --dropout 0.1.")
    hub = {"cache_dir": args.cache_dir, "revision": args.model_revision, "trust_remote_code": args.trust_remote_code}
    attention = {"attn_implementation": args.attn_implementation} if args.attn_implementation else {}
    try:
        config = AutoConfig.from_pretrained(args.config_name or args.model_name_or_path, **hub)
        if args.dropout is not None:
            config.hidden_dropout_prob = config.attention_probs_dropout_prob = args.dropout
        tokenizer = AutoTokenizer.from_pretrained(args.tokenizer_name or args.model_name_or_path, **hub)
        model = task.auto_class.from_pretrained(
            args.model_name_or_path, config=config, use_safetensors=True, **attention, **hub
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"--model_name_or_path {args.model_name_or_path}: {error}") from error
    return model, tokenizer


def _train(trainer: CrAMTrainer) -> dict[str, Any]:
    """Trains, saves the model and the Trainer's own records, and returns what the results file tells of it."""
    began = trainer.args.resume_from_checkpoint
    outcome = trainer.train(resume_from_checkpoint=began)
    trainer.save_model()
    trainer.log_metrics("train", outcome.metrics)
    trainer.save_metrics("train", outcome.metrics)
    trainer.save_state()
    return {
        "updates": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "seconds": outcome.metrics["train_runtime"],
        "loss": outcome.metrics["train_loss"],
        **({"resumed": True} if began else {}),
    }


# ---- after training ----


def evaluate(trainer: CrAMTrainer, data: TaskData, folder: Path) -> Iterator[Row]:
    """Yields the scores on the whole evaluation set: the dense model's, then each one-shot compression's.

    The model is as before after each row. The dense model's prediction files go to `folder`, prefixed `eval`.
    """
    sets = data.evaluation
    assert sets is not None  # the caller evaluates
    trainer.compute_metrics = sets.compute_metrics
    for compressor in [None, *map(parse_compressor, trainer.args.eval_compressors)]:
        began = time.perf_counter()
        with compressed(trainer.compressible, compressor) if compressor else nullcontext():
            outcome = trainer.predict(sets.features, metric_key_prefix="final")
            sparsity = measure(trainer.model, trainer.compressible)
        if compressor is None and trainer.is_world_process_zero():
            sets.write_predictions(outcome.predictions, folder, "eval")
        metrics = {name.removeprefix("final_"): value for name, value in (outcome.metrics or {}).items()}
        timing = ("runtime", "_per_second", "model_preparation_time")
        row = Row(
            spec=compressor.spec if compressor else "dense",
            metrics={name: value for name, value in metrics.items() if not name.endswith(timing)},
            sparsity=sparsity.compressible,
            model_sparsity=sparsity.model,
            seconds=round(time.perf_counter() - began, 1),
            examples=sets.examples,
        )
        logger.info(
            "%s: %s",
            row.spec,
            ", ".join(f"{name} {value:.4g}" for name, value in row.metrics.items() if value is not None),
        )
        yield row


def _results(
    task: Task,
    trainer: CrAMTrainer,
    data: TaskData,
    training: dict[str, Any] | None,
    rows: tuple[Row, ...],
    argv: Sequence[str],
    model_args: ModelArguments,
    output: OutputArguments,
) -> Results:
    gpu = torch.cuda.get_device_name(trainer.args.device) if trainer.args.device.type == "cuda" else None
    return Results(
        task=task.name,
        label=output.label or task.name,
        model=model_args.model_name_or_path,
        model_parameters=sum(p.numel() for p in trainer.model.parameters()),
        compressible_parameters=sum(w.numel() for w in trainer.compressible.values()),
        command=command_line([sys.argv[0], *argv]),
        seed=trainer.args.seed,
        config=_changed(model_args) | _changed(trainer.args),
        data=data.report,
        training=training,
        main_metric=task.main_metric,
        rows=rows,
        **environment(threads=torch.get_num_threads(), gpu=gpu),
    )


def _changed(arguments: Any) -> dict[str, Any]:
    """The fields that differ from their defaults."""
    plain = (str, int, float, bool, list, type(None))
    found = {}
    for f in fields(arguments):
        value = getattr(arguments, f.name)
        default: Callable[[], Any] | Any = f.default_factory() if callable(f.default_factory) else f.default
        if f.init and value != default and isinstance(value, plain) and "token" not in f.name:
            found[f.name] = getattr(value, "value", value)  # enumerations are strings too
    return found


def _write(results: Results, baseline: Results | None, folder: Path, origin: dict[str, Any]) -> None:
    """Writes results.json, the picture and the card, and prints the table."""
    results.save(folder / "results.json")
    text = table(results, baseline)
    sys.stdout.write(f"\n{text}\n")
    picture: str | None = "curve.png"
    try:
        plot([results], folder / "curve.png", baseline=baseline)
    except ImportError as error:
        picture = None
        logger.warning("No picture: %s", error)
    write_whole(folder / "README.md", card(results, picture=picture, **origin).encode())
    written = ["results.json", *([picture] if picture else []), "README.md"]
    sys.stdout.write(f"\nWritten to {folder}: {', '.join(written)}\n")


def _export(
    trainer: CrAMTrainer,
    tokenizer: PreTrainedTokenizerBase,
    results: Results,
    spec: str,
    origin: dict[str, Any],
) -> None:
    """Bakes one compression into `<output_dir>/export/<key>`."""
    compressor = parse_compressor(spec)
    folder = folder_of(trainer.args) / "export" / compressor.key
    text = card(results, export_spec=spec, **origin)
    model: Any = unwrapped(trainer.model)
    export(model, tokenizer, compressor, folder, weights=trainer.compressible, results=results, card=text)
    sys.stdout.write(f"Exported {spec}: {folder}\n")
