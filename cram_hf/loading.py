"""The model and tokenizer a run starts from: their flags, and how they are loaded."""

from __future__ import annotations

import difflib
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .tasks.base import Task

logger = logging.getLogger(__name__)


@dataclass
class ModelArguments:
    """Which model a run starts from.

    An access token goes to `HF_TOKEN` and is kept in no object; the cache folder is made that of `datasets` too.
    """

    model_name_or_path: str = field(
        metadata={"help": "Model folder, or name on the Hub, e.g. google-bert/bert-base-uncased."}
    )
    config_name: str | None = field(
        default=None, metadata={"help": "Configuration folder or name, if not the model's."}
    )
    tokenizer_name: str | None = field(
        default=None, metadata={"help": "Tokenizer folder or name, if not the model's."}
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Where models and data sets from the Hub are kept."})
    model_revision: str = field(default="main", metadata={"help": "Branch, tag or commit of the model on the Hub."})
    token: str | None = field(
        default=None,
        repr=False,
        metadata={
            "help": "Access token for the Hub, instead of HF_TOKEN or `hf auth login`. It is written to no file. "
            "--hub_token, if given as well, is used for everything."
        },
    )
    use_fast_tokenizer: bool = field(
        default=True, metadata={"help": "Without effect: transformers 5 has one tokenizer for each model."}
    )
    dtype: str = field(
        default="float32",
        metadata={
            "help": "Type of the weights, whatever the checkpoint's is; auto: the checkpoint's. For speed rather give "
            "--bf16, which keeps the weights in float32.",
            "choices": ["auto", "bfloat16", "float16", "float32"],
        },
    )
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Run code that comes with the model. Off unless you trust it."}
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={"help": "eager, sdpa, ...; on a CPU, eager trains a quarter faster when attention dropout is 0."},
    )
    ignore_mismatched_sizes: bool = field(
        default=False, metadata={"help": "Start with a new head where the model's own has another shape."}
    )
    dropout: float | None = field(
        default=None,
        metadata={"help": "Dropout of hidden states and attention, instead of the model's own (BERT: 0.1)."},
    )

    def __post_init__(self) -> None:
        """Tells the libraries that load models and data where the cache is, and the token."""
        if self.token:
            os.environ["HF_TOKEN"], self.token = self.token, None
        if self.cache_dir:
            datasets.config.HF_DATASETS_CACHE = Path(self.cache_dir)
            datasets.config.DOWNLOADED_DATASETS_PATH = Path(self.cache_dir) / datasets.config.DOWNLOADED_DATASETS_DIR


@dataclass
class ScratchArguments(ModelArguments):
    """Which model a run starts from, or which architecture it trains from scratch."""

    model_name_or_path: str = field(
        default="",
        metadata={"help": "Model folder, or name on the Hub. Left out: a new model, see --model_type."},
    )
    model_type: str | None = field(
        default=None, metadata={"help": "Architecture of a model trained from scratch, e.g. bert."}
    )
    config_overrides: str | None = field(
        default=None,
        metadata={"help": "Changes to a new model's configuration: hidden_size=256,num_hidden_layers=4."},
    )

    def __post_init__(self) -> None:
        """Raises `ValueError` with all problems."""
        super().__post_init__()
        problems = []
        if bool(self.model_name_or_path) == bool(self.model_type or self.config_name):
            problems.append(
                "Start either from a model, --model_name_or_path google-bert/bert-base-uncased, or from scratch, "
                "--model_type bert (or --config_name FOLDER)."
            )
        if self.model_type and self.model_type not in CONFIG_MAPPING:
            near = difflib.get_close_matches(self.model_type, list(CONFIG_MAPPING), n=3)
            hint = f"did you mean {', '.join(near)}?" if near else "e.g. bert, roberta, distilbert or electra."
            problems.append(f"--model_type {self.model_type}: transformers has no such architecture; {hint}")
        if self.config_overrides and self.model_name_or_path:
            problems.append("--config_overrides changes a new model; a trained one keeps its shape. Leave it out.")
        if problems:
            raise ValueError("\n".join(problems))


def load_tokenizer(args: ModelArguments) -> PreTrainedTokenizerBase:
    """Loads the tokenizer. Raises `ValueError` if there is none."""
    if not args.use_fast_tokenizer:
        logger.warning("--use_fast_tokenizer false has no effect: transformers 5 has one tokenizer for each model")
    name = args.tokenizer_name or args.model_name_or_path or args.config_name
    if not name:
        raise ValueError(
            "A model from scratch needs a tokenizer: give --tokenizer_name FOLDER, or --train_tokenizer to make one."
        )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name, **_hub(args))
    except (OSError, ValueError) as error:
        flag = "tokenizer_name" if args.tokenizer_name else "model_name_or_path"
        raise ValueError(f"--{flag} {name}: {error}") from error
    return tokenizer


def load_model(
    task: Task,
    args: ModelArguments,
    overrides: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> PreTrainedModel:
    """Loads the model, weights from safetensors only, or makes a new one; says which weights start anew.

    Args:
        task: says which head the model has.
        args: the flags.
        overrides: what the data ask of the configuration, such as `num_labels`.
        tokenizer: a new model gets its vocabulary and padding.

    Raises:
        ValueError: the flags make no model, or its files cannot be read.
    """
    if args.dropout is not None and not 0 <= args.dropout < 1:
        raise ValueError(f"--dropout {args.dropout}: a share in [0, 1). Type e.g. --dropout 0.1.")
    form = {"attn_implementation": args.attn_implementation} if args.attn_implementation else {}
    form |= {} if args.dtype == "auto" else {"dtype": args.dtype}
    name = args.model_name_or_path
    try:
        scratch = isinstance(args, ScratchArguments) and not args.model_name_or_path
        if scratch and tokenizer is not None:
            overrides = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **overrides}
        config = _config(args, overrides)
        if not args.ignore_mismatched_sizes:
            _check_labels(args, overrides)
        if args.dropout is not None:
            _set_dropout(config, args.dropout)
        if scratch:
            new: PreTrainedModel = task.auto_class.from_config(
                config, trust_remote_code=args.trust_remote_code, **form
            )
            return new
        model: PreTrainedModel
        model, loaded = task.auto_class.from_pretrained(
            args.model_name_or_path,
            config=config,
            output_loading_info=True,
            use_safetensors=True,
            ignore_mismatched_sizes=args.ignore_mismatched_sizes,
            **form,
            **_hub(args),
        )
    except (OSError, ValueError, RuntimeError) as error:
        given = (
            f"--model_name_or_path {args.model_name_or_path}" if args.model_name_or_path else "A model from scratch"
        )
        raise ValueError(f"{given}: {error}") from error
    if new_names := sorted(loaded["missing_keys"]):
        names = ", ".join(new_names)
        logger.info("%s has no trained weights for this task's head; these start anew: %s", name, names)
    return model


def _hub(args: ModelArguments) -> dict[str, Any]:
    return {"cache_dir": args.cache_dir, "revision": args.model_revision, "trust_remote_code": args.trust_remote_code}


def _config(args: ModelArguments, overrides: dict[str, Any]) -> PreTrainedConfig:
    """The model's configuration with what the data ask and, for a new model, what the user asks on top."""
    name = args.config_name or args.model_name_or_path
    scratch = args if isinstance(args, ScratchArguments) and not args.model_name_or_path else None
    if scratch and scratch.model_type:
        config = CONFIG_MAPPING[scratch.model_type](**overrides)
    else:
        config = AutoConfig.from_pretrained(name, **overrides, **_hub(args))
    if scratch and scratch.config_overrides:
        try:
            config.update_from_string(scratch.config_overrides)
        except TypeError as error:  # transformers reads no value for a field that is None by default
            raise ValueError(f"--config_overrides {scratch.config_overrides}: {error}") from error
    return config


def _check_labels(args: ModelArguments, overrides: dict[str, Any]) -> None:
    """Raises `ValueError` if a trained head knows the labels of the data in another order, which would score wrong."""
    if "label2id" not in overrides or not args.model_name_or_path:
        return
    own, wanted = (
        AutoConfig.from_pretrained(args.model_name_or_path, **_hub(args)).label2id or {},
        overrides["label2id"],
    )
    if set(own) == set(wanted) and own != wanted:
        raise ValueError(
            f"the model's labels are {', '.join(sorted(own, key=own.__getitem__))} in this order, those of the data "
            f"{', '.join(wanted)}: its scores would be wrong. Type --ignore_mismatched_sizes to train it anew."
        )


def _set_dropout(config: PreTrainedConfig, dropout: float) -> None:
    if not (hasattr(config, "hidden_dropout_prob") and hasattr(config, "attention_probs_dropout_prob")):
        raise ValueError(f"--dropout does not know how {type(config).__name__} calls its dropout. Leave it out.")
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
