"""The model and tokenizer a run starts from: their flags, and how they are loaded."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from .tasks.base import Task


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


def load(task: Task, args: ModelArguments) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads configuration, tokenizer and model; weights from safetensors only."""
    if args.dropout is not None and not 0 <= args.dropout < 1:
        raise ValueError(f"--dropout {args.dropout}: a share in [0, 1). Type e.g. --dropout 0.1.")
    hub = {"cache_dir": args.cache_dir, "revision": args.model_revision, "trust_remote_code": args.trust_remote_code}
    attention = {"attn_implementation": args.attn_implementation} if args.attn_implementation else {}
    try:
        config = AutoConfig.from_pretrained(args.config_name or args.model_name_or_path, **hub)
        if args.dropout is not None:
            if not (hasattr(config, "hidden_dropout_prob") and hasattr(config, "attention_probs_dropout_prob")):
                raise ValueError(
                    f"--dropout does not know how {type(config).__name__} calls its dropout. Leave it out."
                )
            config.hidden_dropout_prob = config.attention_probs_dropout_prob = args.dropout
        tokenizer = AutoTokenizer.from_pretrained(args.tokenizer_name or args.model_name_or_path, **hub)
        model = task.auto_class.from_pretrained(
            args.model_name_or_path, config=config, use_safetensors=True, **attention, **hub
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"--model_name_or_path {args.model_name_or_path}: {error}") from error
    return model, tokenizer
