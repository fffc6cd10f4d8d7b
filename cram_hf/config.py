"""Arguments of a script: a YAML file as first argument, flags that override it, and kind words for typos."""

from __future__ import annotations

import difflib
import json
from argparse import SUPPRESS, Action, ArgumentError
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from inspect import getdoc
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser


class Parser(HfArgumentParser):
    """Parses `script.py [config.yaml] [--flag value ...]` into dataclasses.

    The file holds flags without dashes (`rho: 0.01`, `compressors: [topk:0.5, topk:0.7]`); a flag given on the command
    line wins over it. A list flag may be repeated (`--export topk:0.5 --export nm:2:4`) and may be empty. Values are
    typed by the flag, so `3e-5` is a number; `null` leaves the default.
    """

    def __init__(self, dataclasses: Sequence[Any], description: str) -> None:
        super().__init__(
            list(dataclasses),
            description=description,
            allow_abbrev=False,
            exit_on_error=False,
            usage="%(prog)s [config.yaml] [--flag value ...]",
        )
        self._flags = {flag: action for action in self._actions for flag in action.option_strings}
        self._required = [action for action in self._actions if action.required]
        for action in self._actions:
            action.required = False  # file and flags are tried one by one; what is missing is told at the end
            if action.nargs == "+":
                action.nargs = "*"
            if action.nargs == 0 and action.dest != "help":  # --no_plus beside --plus
                action.help, action.default = f"The same as --{action.dest} false.", SUPPRESS

    def parse(self, argv: Sequence[str]) -> tuple[Any, ...]:
        """Returns one instance of each dataclass.

        Raises:
            ValueError: one message with all unknown keys and flags (and the nearest known name), values of the wrong
                type and missing flags; or what the dataclasses themselves refuse.
        """
        words, problems, chosen = list(argv), list[str](), dict[str, list[str]]()
        if words and not words[0].startswith("-"):
            path = Path(words.pop(0))
            chosen = self._understood(self._read(path, problems), problems, f"{path}: ")
        chosen |= self._understood(self._split(words, problems), problems)
        for action in self._required:
            if action.dest not in chosen:
                problems.append(f"--{action.dest} is missing: {action.help}")
        if problems:
            raise ValueError("\n".join(problems))
        together = [word for words in chosen.values() for word in _joined(*words)]
        return tuple(self.parse_args_into_dataclasses(together, look_for_args_file=False))

    def _read(self, path: Path, problems: list[str]) -> list[list[str]]:
        """The file's keys as flags, each with its values."""
        try:
            values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
        except FileNotFoundError:
            near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.y*ml")], n=3)
            hint = (
                f" Near it: {', '.join(near)}." if near else " Flags start with --, a config file comes before them."
            )
            raise ValueError(f"There is no config file {path}.{hint}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no valid YAML: {error}") from None
        if not isinstance(values, dict | None):
            kind = type(values).__name__
            raise ValueError(f"{path} holds a {kind}; it must hold 'flag: value' lines, e.g. 'rho: 0.01'.")
        keys = [action.dest for action in self._actions if action.dest != "help"]
        found = []
        for key, value in (values or {}).items():
            if key not in keys:
                problems.append(f"{path}: unknown key {key!r}.{self._nearest(str(key), keys)}")
            elif value is not None:
                found.append([f"--{key}", *_words(value)])
        return found

    def _split(self, argv: Sequence[str], problems: list[str]) -> list[list[str]]:
        """The command line cut before each flag."""
        found: list[list[str]] = []
        for word in argv:
            flag, equals, value = word.partition("=")
            if flag in self._flags:
                found.append([flag, value] if equals else [flag])
            elif word.startswith("--"):
                problems.append(f"Unknown flag {flag}.{self._nearest(flag, self._flags)}")
                found.append([])
            elif found:
                found[-1].append(word)
            else:
                problems.append(f"Not understood: {word}. A config file comes first, and a value follows its flag.")
        return [words for words in found if words and words[0] in self._flags]

    def _understood(self, given: list[list[str]], problems: list[str], origin: str = "") -> dict[str, list[str]]:
        """The flags by destination, repeated lists joined; each is tried on its own, so that all problems are told."""
        chosen: dict[str, list[str]] = {}
        for flag, *values in given:
            try:
                _, rest = self.parse_known_args(_joined(flag, *values))
            except ArgumentError as error:
                problems.append(f"{origin}{' '.join([flag, *values])}: {error.message}.")
                continue
            if rest:
                problems.append(
                    f"{origin}Not understood after {flag}: {' '.join(rest)}. A config file comes first, and a value "
                    "follows its flag."
                )
            action = self._flags[flag]
            earlier = chosen.get(action.dest, []) if action.nargs == "*" else []
            chosen[action.dest] = [*(earlier or [flag]), *values]
        return chosen

    def format_help(self) -> str:
        """Returns the help text: a section for each dataclass, the many flags it inherits from `Trainer`'s last."""
        sections: dict[Any, list[Action]] = {cls: [] for cls in self.dataclass_types}
        for cls in self.dataclass_types:
            for field in fields(cls):
                owner = next(base for base in reversed(cls.__mro__) if is_dataclass(base) and field in fields(base))
                sections.setdefault(owner, []).extend(a for a in self._actions if a.dest == field.name)
        formatter = self.formatter_class(prog=self.prog)
        formatter.add_usage(self.usage, self._actions, [])
        formatter.add_text(self.description)
        for cls, actions in sections.items():
            formatter.start_section(cls.__name__)
            formatter.add_text((getdoc(cls) or "").partition("\n")[0])
            formatter.add_arguments(actions)
            formatter.end_section()
        return formatter.format_help()

    def _nearest(self, name: str, known: Iterable[str]) -> str:
        near = difflib.get_close_matches(name, list(known), n=1)
        return f" Did you mean {near[0]}?" if near else f" {self.prog} --help lists them all."


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, where YAML would silently take the last; reads `no` as the word it is."""

    # YAML 1.1 takes no, yes, on and off for booleans; in `eval_strategy: no` it is a word. true and false stay.
    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in known if first in "tTfF" or tag != "tag:yaml.org,2002:bool"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.YAMLError(f"key given twice: {', '.join(twice)} (line {node.start_mark.line + 1} and below)")
        return super().construct_mapping(node, deep)


def _words(value: Any) -> list[str]:
    """A YAML value as it would be typed on the command line."""
    if isinstance(value, dict):
        return [json.dumps(value)]
    return [str(item) for item in (value if isinstance(value, list) else [value])]


def _joined(flag: str, *values: str) -> list[str]:
    """A flag and its values for argparse, which takes a value that starts with a dash only after an equals sign."""
    return [f"{flag}={values[0]}"] if len(values) == 1 else [flag, *values]
