"""`CrAMArguments`: the Trainer's arguments plus the method's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy

from .compressors import parse_compressor
from .core import Perturb


@dataclass(repr=False)  # Trainer's own, which hides the token
class CrAMArguments(TrainingArguments):
    """The arguments of CrAM (Peste et al., ICLR 2023), on top of those of `transformers.TrainingArguments`.

    Args:
        compressors (`list[str]`, *optional*, defaults to `[]`): the compressors trained for, as words: `topk:0.7`,
            `topk:0.7:layer`, `nm:2:4`, `quantize:8`, `nm:2:4+quantize:8`. One is drawn for each optimizer update, as
            a function of `seed` and the update's number alone. Without any the trainer is the plain `Trainer`.
        compressor_weights (`list[float]`, *optional*): how often each compressor is drawn, relative to the others;
            equally often if not given.
        rho (`float`, *optional*, defaults to 0.005): size of the ascent step w + rho * g before compression; 0 is
            allowed and skips the ascent.
        plus (`bool`, *optional*, defaults to `True`): CrAM+, which updates with the sum of the dense and the
            compressed gradient. `False`: CrAM, the compressed gradient alone.
        masked (`bool`, *optional*, defaults to `True`): the compressed gradient acts on the kept weights only.
            `False`: straight through to all.
        perturb (`"all"` or `"compressible"`, *optional*, defaults to `"all"`): what the ascent moves.
        normalize_grad (`bool`, *optional*, defaults to `False`): divide g by its norm in the ascent, as SAM does.
        same_dropout (`bool`, *optional*, defaults to `True`): the compressed pass replays the dropout masks of the
            dense one.
        compress_include (`list[str]`, *optional*): names or patterns of the weights to compress, instead of the
            default choice, the linear layers of the encoder.
        compress_exclude (`list[str]`, *optional*): names or patterns of weights to leave out.
        eval_compressors (`list[str]`, *optional*, defaults to `[]`): every evaluation is repeated for each of these
            one-shot compressions; metrics are called `eval_topk_0.8_f1` and so on, names that `metric_for_best_model`
            takes.
        keep_sparsity (`bool`, *optional*, defaults to `False`): the zeros among the compressible weights of the model
            that the trainer is given stay zeros, with `compressors` and without (sparse transfer).
        hub_strategy (`str`, *optional*, defaults to `"end"`): with `push_to_hub`, push the model once, at the end.
            The others are Trainer's own, which also upload its records, such as `training_args.bin` without a token.

    Raises:
        ValueError: one message with every problem of these fields.
    """

    compressors: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Compressors to train for, one drawn per update: topk:0.7 topk:0.7:layer nm:2:4 quantize:8 "
            "nm:2:4+quantize:8. None: the plain Trainer."
        },
    )
    compressor_weights: list[float] | None = field(
        default=None,
        metadata={"help": "How often each compressor is drawn, relative to the others. Default: equally often."},
    )
    rho: float = field(default=0.005, metadata={"help": "Size of the ascent step w + rho * gradient; 0 skips it."})
    plus: bool = field(
        default=True,
        metadata={
            "help": "CrAM+: update with the sum of the dense and the compressed gradient; else CrAM: the compressed."
        },
    )
    masked: bool = field(
        default=True,
        metadata={"help": "Let the compressed gradient act on the kept weights only; else straight through to all."},
    )
    perturb: str = field(
        default="all",
        metadata={
            "help": "What the ascent step moves: all parameters, or the compressible weights only.",
            "choices": list(get_args(Perturb)),
        },
    )
    normalize_grad: bool = field(
        default=False, metadata={"help": "Divide the gradient by its norm in the ascent step, as SAM does."}
    )
    same_dropout: bool = field(
        default=True, metadata={"help": "Use the dense pass's dropout masks again in the compressed pass."}
    )
    compress_include: list[str] | None = field(
        default=None,
        metadata={"help": "Names or patterns of the weights to compress. Default: the linear layers of the encoder."},
    )
    compress_exclude: list[str] | None = field(
        default=None,
        metadata={"help": "Names or patterns of weights that are never compressed, e.g. query or encoder.layer.0."},
    )
    eval_compressors: list[str] = field(
        default_factory=list,
        metadata={"help": "Evaluate under each of these one-shot compressions too, e.g. topk:0.5 topk:0.8 nm:2:4."},
    )
    keep_sparsity: bool = field(
        default=False,
        metadata={"help": "Keep the zeros of a pruned checkpoint's compressible weights while it is fine-tuned."},
    )

    hub_strategy: HubStrategy | str = field(
        default="end",
        metadata={"help": "When to push: 'end', or during training 'every_save', 'checkpoint', 'all_checkpoints'."},
    )

    def __getstate__(self) -> dict[str, Any]:
        """Returns what is pickled, into `training_args.bin` for one: all but the access token."""
        return self.__dict__ | {"hub_token": None}

    def __post_init__(self) -> None:
        self.compressors, self.eval_compressors = self.compressors or [], self.eval_compressors or []
        problems = self._problems()
        if problems:
            raise ValueError("\n".join(problems))
        if not torch.accelerator.is_available():
            self.use_cpu = True  # changes nothing there, except that TrainingArguments then allows bf16
        super().__post_init__()

    def _problems(self) -> list[str]:
        """Every problem of the CrAM fields, a line each."""
        problems = []
        for flag in ("compressors", "eval_compressors", "compress_include", "compress_exclude"):
            words = getattr(self, flag)
            if isinstance(words, str):
                problems.append(f"{flag}={words!r} is one word; a list is needed. Type {flag}=[{words!r}].")
            elif flag.endswith("compressors"):
                problems += _spec_problems(flag, words)
        if not isinstance(self.rho, int | float) or not (math.isfinite(self.rho) and self.rho >= 0):
            problems.append(f"--rho {self.rho}: the ascent step is a finite number, 0 or more. Type e.g. --rho 0.005.")
        if self.perturb not in get_args(Perturb):
            problems.append(f"--perturb {self.perturb}: allowed are {' and '.join(get_args(Perturb))}.")
        weights = self.compressor_weights
        if weights is not None and (
            len(weights) != len(self.compressors)
            or not all(math.isfinite(weight) and weight >= 0 for weight in weights)
            or not sum(weights)
        ):
            problems.append(
                f"--compressor_weights {' '.join(map(str, weights))}: give one number of 0 or more for each of the "
                f"{len(self.compressors)} compressors, not all 0."
            )
        return problems


def _spec_problems(flag: str, specs: list[str]) -> list[str]:
    """What is wrong with a list of compressors."""
    problems, keys = [], []
    for spec in specs:
        try:
            keys.append(parse_compressor(spec).key)
        except ValueError as error:
            problems.append(f"--{flag}: {error}")
    if len(set(keys)) < len(keys):
        problems.append(f"--{flag} {' '.join(specs)}: a compressor is named twice; name each once.")
    return problems
