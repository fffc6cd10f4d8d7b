"""The model that a command is given, loaded with the head its configuration names."""

from __future__ import annotations

import argparse
import difflib
import logging
import re
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub.utils import logging as hub_logging
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..packed import FILE_NAME, load_packed_model
from ..weights import compressible_weights

logger = logging.getLogger(__name__)

TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges*", "*.model", "*.spm")
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def weights_of(model: nn.Module, args: argparse.Namespace) -> dict[str, nn.Parameter]:
    """Returns the compressible weights of the flags of `add_weights`. Raises `ValueError` as they do."""
    return compressible_weights(model, args.compress_include, args.compress_exclude)


def load_checkpoint(
    name: str, trust_remote_code: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """Returns the model of a folder or of the Hub, in its own dtype and in eval mode, and its tokenizer if it has one.

    Weights are read from safetensors only, packed ones (`cram-hf pack`) too. The class is the first of
    `architectures` in `config.json`.

    Args:
        name (`str`): folder, or name on the Hub.
        trust_remote_code (`bool`, defaults to `False`): run code that comes with the model.

    Raises:
        ValueError: there is no such model, its configuration names no class of transformers, its files are damaged,
            or they lack weights that the class needs: nothing is ever filled in with random numbers.
    """
    _check_folder(name)
    hub_logging.set_verbosity_error()  # of several tries without a connection the last is told, in one line
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
        packed = Path(name) / FILE_NAME
        load = _load_packed if packed.exists() else _load
        model = load(name, config, trust_remote_code)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        near = difflib.get_close_matches(name, _folders(Path(name)), n=3)
        hint = f" A folder near it: {', '.join(near)}." if near and not Path(name).exists() else ""
        what = "the model" if Path(name).exists() else "there is no such folder, and as a name on the Hub it"
        raise ValueError(f"{name}: {what} cannot be loaded: {' '.join(str(error).split())}{hint}") from error
    return model.eval(), _tokenizer(name, trust_remote_code)


def _load(name: str, config: PreTrainedConfig, trust_remote_code: bool) -> PreTrainedModel:
    code = {"trust_remote_code": True} if trust_remote_code else {}
    model: PreTrainedModel
    model, report = _class(config, trust_remote_code).from_pretrained(
        name, config=config, use_safetensors=True, dtype="auto", output_loading_info=True, **code
    )
    lacking = sorted({*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])})
    if lacking:
        raise ValueError(
            f"the files lack {len(lacking)} weights of {type(model).__name__}, first {lacking[0]}. Give a trained "
            "model, or correct 'architectures' in its config.json"
        )
    return model


def _load_packed(name: str, config: PreTrainedConfig, trust_remote_code: bool) -> PreTrainedModel:
    found = _class(config, trust_remote_code)
    own = issubclass(found, PreTrainedModel)
    model: PreTrainedModel = found(config) if own else found.from_config(config, trust_remote_code=True)
    load_packed_model(Path(name) / FILE_NAME, model, assign=True)
    model.tie_weights()
    return model


def _check_folder(name: str) -> None:
    """Raises `ValueError` for a path that is no model folder; what may be a name on the Hub passes."""
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").exists():
            inside = sorted(str(config.parent) for config in path.glob("*/config.json"))
            hint = f" Near it: {', '.join(inside[:5])}." if inside else ""
            raise ValueError(f"{name} holds no config.json: give the folder that save_pretrained wrote.{hint}")
    elif path.exists():
        raise ValueError(f"{name} is a file: give the folder that holds it and a config.json.")
    elif not HUB_NAME.fullmatch(name) or ("/" in name and path.parent.is_dir()):
        near = difflib.get_close_matches(str(path), _folders(path), n=3)
        hint = f" Near it: {', '.join(near)}." if near else " Give a folder, or a name on the Hub."
        raise ValueError(f"There is no folder {name}.{hint}")


def _folders(path: Path) -> list[str]:
    return [str(p) for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []


def _class(config: PreTrainedConfig, trust_remote_code: bool) -> Any:
    """The class that loads the model: its own, or for code that comes with it the Auto class that finds it."""
    architectures = config.architectures or []
    if not architectures:
        raise ValueError(
            'its config.json names no class: add e.g. "architectures": ["BertForQuestionAnswering"], or save the '
            "model with save_pretrained"
        )
    if trust_remote_code:
        for auto_class, reference in (getattr(config, "auto_map", None) or {}).items():  # in few configurations
            if str(reference).endswith(f".{architectures[0]}"):
                return getattr(transformers, auto_class)
    found = getattr(transformers, architectures[0], None)
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        raise ValueError(f"transformers has no model {architectures[0]}, which its config.json names")
    return found


def _tokenizer(name: str, trust_remote_code: bool) -> PreTrainedTokenizerBase | None:
    folder = Path(name)
    # Where there are no files, transformers makes a tokenizer that knows its special tokens and nothing else.
    if folder.is_dir() and not any(path.match(pattern) for path in folder.iterdir() for pattern in TOKENIZER_FILES):
        return None
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        logger.warning("%s: its tokenizer cannot be loaded: %s", name, " ".join(str(error).split()))
        return None
    return tokenizer if len(tokenizer) > len(tokenizer.all_special_ids) + 1 else None
