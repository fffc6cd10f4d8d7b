"""Arguments of a script: a YAML file as first argument, flags that override it, and kind words for typos."""

from __future__ import annotations

import difflib
import json
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from transformers import HfArgumentParser


class Parser(HfArgumentParser):
    """Parses `script.py [config.yaml] [--flag value ...]` into dataclasses.

    The file holds flags without dashes (`rho: 0.01`, `compressors: [topk:0.5, topk:0.7]`); a flag given on the command
    line wins over it. Values are typed by the flag, so `3e-5` is a number; `null` leaves the default.
    """

    def __init__(self, dataclasses: Sequence[type], description: str) -> None:
        super().__init__(
            list(dataclasses),
            description=description,
            allow_abbrev=False,
            usage="%(prog)s [config.yaml] [--flag value ...]",
        )

    def parse(self, argv: Sequence[str]) -> tuple[Any, ...]:
        """Returns one instance of each dataclass.

        Raises:
            ValueError: unknown keys or flags (with the nearest known name), values of the wrong type, or whatever the
                dataclasses themselves refuse; all problems of the file, and then of the flags, at once.
        """
        argv = list(argv)
        from_file = self._read(Path(argv.pop(0))) if argv and not argv[0].startswith("-") else []
        known = {flag for action in self._actions for flag in action.option_strings}
        unknown = [word.split("=")[0] for word in argv if word.startswith("--") and word.split("=")[0] not in known]
        if unknown:
            raise ValueError("\n".join(f"Unknown flag {flag}.{_nearest(flag, known)}" for flag in unknown))
        *instances, rest = self.parse_args_into_dataclasses([*from_file, *argv], return_remaining_strings=True)
        if rest:
            raise ValueError(
                f"Not understood: {' '.join(rest)}. A config file comes first, and a value follows its flag."
            )
        return tuple(instances)

    def _read(self, path: Path) -> list[str]:
        """The file's keys as flags."""
        try:
            values = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
        except FileNotFoundError:
            near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.y*ml")], n=3)
            raise ValueError(
                f"There is no config file {path}.{' Near it: ' + ', '.join(near) + '.' if near else ''}"
            ) from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no valid YAML: {error}") from None
        if not isinstance(values, dict):
            raise ValueError(
                f"{path} holds {type(values).__name__}; it must hold 'flag: value' lines, e.g. 'rho: 0.01'."
            )
        words: list[str] = []
        problems: list[str] = []
        actions = {action.dest: action for action in self._actions if action.dest != "help"}
        for key, value in values.items():
            if key not in actions:
                problems.append(f"{path}: unknown key {key!r}.{_nearest(str(key), actions)}")
                continue
            flag = _as_flag(key, value)
            try:
                super().parse_known_args(flag)
            except (ArgumentError, _Problem) as error:
                if f"--{key}" in str(error):  # other flags may be required; only this one is on trial
                    problems.append(f"{path}: {error}")
            words += flag
        if problems:
            raise ValueError("\n".join(problems))
        return words

    def error(self, message: str) -> NoReturn:
        """Raises instead of exiting, so that the caller words all problems alike."""
        raise _Problem(message[:1].upper() + message[1:])


class _Problem(ValueError):
    """What argparse objects to."""


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is given twice, where YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]  # type: ignore[no-untyped-call]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.YAMLError(f"key given twice: {', '.join(twice)} (line {node.start_mark.line + 1} and below)")
        return super().construct_mapping(node, deep)


def _as_flag(key: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, dict):
        return [f"--{key}", json.dumps(value)]
    return [f"--{key}", *map(str, value if isinstance(value, list) else [value])]


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]}?" if near else f" {Path(sys.argv[0]).name} --help lists them all."
