"""One run of a script, top to bottom: parse, build, train, evaluate dense and compressed, write, export."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import set_seed

from .arguments import CrAMArguments
from .compressors import parse_compressor
from .config import Parser
from .evaluation import score
from .loading import ModelArguments, load_model, load_tokenizer
from .provenance import command_line, environment
from .report import OutputArguments, check_exports, export_one, folder_of, make_results, write
from .results import Results, Row
from .seeds import summary
from .tasks.base import Task, TaskData
from .trainer import CrAMTrainer

logger = logging.getLogger(__name__)


def main(task: Task, argv: Sequence[str] | None = None, model_arguments: type[ModelArguments] = ModelArguments) -> int:
    """Runs a script and returns its exit code: 0, 2 after one message for a user's mistake, 130 after Ctrl-C.

    Args:
        task: what is trained on.
        argv: the words after the script's name; those of the process if not given.
        model_arguments: the flags that say which model; `ScratchArguments` where one can be trained from scratch.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        run(task, words, model_arguments)
    except (ValueError, OSError, NotImplementedError, ImportError) as error:
        if os.environ.get("CRAM_HF_TRACEBACK"):
            raise
        sys.stderr.write(f"error: {error}\n(CRAM_HF_TRACEBACK=1 shows where.)\n")
        return 2
    except KeyboardInterrupt as stop:
        how = str(stop) or "the same command goes on from the last checkpoint."
        sys.stderr.write(f"\nerror: stopped by Ctrl-C; {how}\n")
        return 130
    return 0


class Flags(NamedTuple):
    """What the user typed, in its four parts."""

    model: ModelArguments
    task: Any
    training: CrAMArguments
    output: OutputArguments


def run(task: Task, argv: list[str], model_arguments: type[ModelArguments] = ModelArguments) -> Results | None:
    """Does what the flags say and returns the results, `None` when nothing was evaluated.

    Raises:
        ValueError, OSError, NotImplementedError, ImportError: a user's mistake, worded for the user.
    """
    parser = Parser((model_arguments, task.Arguments, CrAMArguments, OutputArguments), description=task.__doc__ or "")
    flags = Flags(*parser.parse(argv))
    baseline = _check(flags.training, flags.output, argv)
    _set_up_logging(flags.training)
    if flags.output.seeds:
        return _run_seeds(task, parser, argv, flags, baseline)
    return _run_once(task, flags, argv, baseline)


def _run_seeds(task: Task, parser: Parser, argv: list[str], asked: Flags, baseline: Results | None) -> Results | None:
    """Runs once with each seed, in a folder of its own, and writes the summary; takes finished runs as they are."""
    folder, command, found = folder_of(asked.training), command_line([sys.argv[0], *argv]), []
    for seed in asked.output.seeds:
        flags = Flags(*parser.parse(argv))
        flags.training.seed, flags.training.output_dir = seed, str(folder / f"seed-{seed}")
        flags.output.seeds = []
        finished = folder_of(flags.training) / "results.json"
        if finished.exists():
            results: Results | None = Results.load(finished)
            if results and results.command != command:
                raise ValueError(
                    f"{finished} is of another command:\n  {results.command}\nnot of this one:\n  {command}\n"
                    "Choose another --output_dir, or move it away."
                )
        else:
            logger.info("Seed %d: %s", seed, flags.training.output_dir)
            _check(flags.training, flags.output, argv)
            results = _run_once(task, flags, argv, baseline)
        found += [results] if results else []
    if not found or asked.training.process_index > 0:  # the main process writes the summary
        return None
    together = summary(found, command)
    write(together, baseline, folder, None)
    return together


def _run_once(task: Task, flags: Flags, argv: list[str], baseline: Results | None) -> Results | None:
    """One training, or one evaluation, from data to files. Returns the results on the main process."""
    model_args, task_args, args, output = flags
    gpu = torch.cuda.get_device_name(args.device) if args.device.type == "cuda" else None
    began = environment(threads=torch.get_num_threads(), gpu=gpu)
    set_seed(args.seed)
    named = model_args.tokenizer_name or model_args.model_name_or_path
    tokenizer = task.train_tokenizer(task_args, named) or load_tokenizer(model_args)
    data = task.prepare(task_args, tokenizer, args)
    set_seed(args.seed)  # a new head is the same whatever the data drew
    model = load_model(task, model_args, data.model_config, tokenizer)
    if data.prepare_model:
        data.prepare_model(model)
    trainer = CrAMTrainer(
        model=model,
        args=args,
        train_dataset=data.train,
        eval_dataset=data.interim.features if data.interim else None,
        compute_metrics=data.interim.compute_metrics if data.interim else None,
        data_collator=data.collator,
        processing_class=tokenizer,
        preprocess_logits_for_metrics=data.preprocess_logits,
        callbacks=list(data.callbacks),
    )
    trainer.exact_loss = True  # for the baseline too
    for spec in output.export:
        parse_compressor(spec).check(trainer.compressible)
    training = _train(trainer) if args.do_train else None
    results = None
    if data.evaluation:
        rows = tuple(evaluate(trainer, data, folder_of(args)))
        if trainer.is_world_process_zero():
            results = make_results(trainer, data, training, rows, argv, output.label or data.task, flags[:3], began)
            origin = {
                "base_model": model_args.model_name_or_path or None,
                "dataset": task_args.dataset_name,
                "auto_class": task.auto_class.__name__,
                "pipeline_tag": task.pipeline_tag,
            }
            write(results, baseline, folder_of(args), origin)
            for spec in output.export:
                export_one(trainer, tokenizer, results, spec, origin)
    if data.predict:
        logits = trainer.predict(data.predict.features, metric_key_prefix="predict").predictions
        if trainer.is_world_process_zero():
            data.predict.write_predictions(logits, folder_of(args), "predict")
    if args.push_to_hub:
        pushed = trainer.push_to_hub()
        sys.stdout.write(f"Pushed: {pushed.url}\n" if pushed else "")
    return results


def _check(args: CrAMArguments, output: OutputArguments, argv: Sequence[str]) -> Results | None:
    """Refuses what would fail or overwrite later; returns the baseline."""
    folder = folder_of(args)
    check_exports(args, output.export)
    if args.hub_token:  # Trainer would write it into training_args.bin; huggingface_hub reads the environment
        os.environ["HF_TOKEN"], args.hub_token = args.hub_token, None
    if not (args.do_train or args.do_eval or args.do_predict):
        raise ValueError("Nothing to do: give at least one of --do_train, --do_eval and --do_predict.")
    if not args.do_eval and (output.export or output.baseline or args.eval_compressors):
        raise ValueError("--export, --baseline and --eval_compressors need scores. Add --do_eval, or leave them out.")
    if output.seeds and args.push_to_hub:
        raise ValueError("--push_to_hub: --seeds make several models; push one of them afterwards with cram-hf push.")
    if output.seeds and args.resume_from_checkpoint:
        raise ValueError(
            "--resume_from_checkpoint names one run, --seeds make several: leave it out, and what was cut off goes on."
        )
    if (folder / "results.json").exists():
        raise ValueError(
            f"{folder} holds the results of a finished run: choose another --output_dir, or move it away."
        )
    fresh = args.do_train and args.resume_from_checkpoint is None and not output.seeds
    if fresh and folder.is_dir() and any(folder.iterdir()):
        checkpoint = last_whole_checkpoint(folder)
        if checkpoint is None:
            raise ValueError(
                f"{folder} is not empty and holds no checkpoint to go on from: choose another --output_dir."
            )
        args.resume_from_checkpoint = str(checkpoint)
    label = next((Path(word).stem for word in argv[:1] if not word.startswith("-")), None)
    output.label = output.label or label or folder.name
    return Results.load(output.baseline) if output.baseline else None


def last_whole_checkpoint(folder: Path) -> Path | None:
    """Returns the newest `checkpoint-N` that was saved to its end: Trainer writes its state last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _set_up_logging(args: CrAMArguments) -> None:
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S", level=logging.WARNING)
    level = args.get_process_log_level()
    logging.getLogger("cram_hf").setLevel(min(level, logging.INFO) if args.should_log else logging.ERROR)
    transformers.utils.logging.set_verbosity(level)
    if args.resume_from_checkpoint:
        logger.info("Going on from %s", args.resume_from_checkpoint)


def _train(trainer: CrAMTrainer) -> dict[str, Any]:
    """Trains, saves the model and the Trainer's own records, and returns what the results file tells of it."""
    began = trainer.args.resume_from_checkpoint
    outcome = trainer.train(resume_from_checkpoint=began)
    trainer.save_model(_internal_call=True)  # pushed at the very end
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


def evaluate(trainer: CrAMTrainer, data: TaskData, folder: Path) -> Iterator[Row]:
    """Yields the scores on the whole evaluation set: the dense model's, then each one-shot compression's.

    The model is as before after each row. The dense model's prediction files go to `folder`, prefixed `eval`.
    """
    sets = data.evaluation
    assert sets is not None  # the caller evaluates
    for compressor in [None, *map(parse_compressor, trainer.args.eval_compressors)]:
        row, predictions = score(trainer, sets, compressor)
        if compressor is None and trainer.is_world_process_zero():
            sets.write_predictions(predictions, folder, "eval")
        yield row
