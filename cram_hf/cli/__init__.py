"""The command `cram-hf`: what happens to a model after training, two modules a subcommand.

`flags/NAME.py` is what is typed. It is light, so that help and typing errors come at once:

- `NAME` is the word;
- `add(parser)` describes it: flags, `parser.description` and an example in `parser.epilog`.

`NAME.py` does it, and is imported when it is asked for:

- `run(args)` returns the result in plain JSON types. `"ok": False` in it means that the answer is no. It raises
  `Unsaved` where a file cannot be written and the result is to be printed all the same;
- `text(result)` returns the result as a person reads it, without a final newline.

The flag `--json` is added to each. stdout is for the result alone; logs and progress bars go to stderr.
"""

from __future__ import annotations

import argparse
import difflib
import json
import logging
import os
import signal
import sys
import textwrap
import threading
import traceback
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from .flags import COMMANDS

DONE, ANSWER_IS_NO, USER_MISTAKE, STOPPED = 0, 1, 2, 130
STOPPED_TEXT = "error: stopped by Ctrl-C\n"


class Unsaved(OSError):
    """A file that could not be written, in words for the user; `result` is printed all the same."""

    def __init__(self, message: str, result: dict[str, Any]) -> None:
        super().__init__(message)
        self.result = result


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `ValueError` where argparse would exit, and suggests the flag that was meant."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{self.prog}: {message}. See {self.prog} --help.")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Returns the parsed words. Raises `ValueError` for what is no flag, before anything else is looked at."""
        flags = self._option_string_actions
        typed = [word.partition("=")[0] for word in words if word.startswith("--") and len(word) > 2]
        unknown = [f"unknown flag {flag}{_meant(flag, flags)}" for flag in typed if flag not in flags]
        if unknown:
            self.error("; ".join(unknown))
        return self.parse_args(words)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns the exit code.

    Args:
        argv (`Sequence[str]`, *optional*): the words after `cram-hf`; those of the process if not given.

    Returns:
        0: done. 1: done, but the answer is no. 2: a user's mistake, told in one message on stderr; with
        `CRAM_HF_TRACEBACK=1` in the environment the traceback comes first. 130: stopped by Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words)
    except (ValueError, OSError, NotImplementedError, ImportError) as error:
        if os.environ.get("CRAM_HF_TRACEBACK"):
            traceback.print_exc()
        sys.stderr.write(f"error: {error}\n")
        return USER_MISTAKE
    except KeyboardInterrupt as stop:
        sys.stderr.write(f"{STOPPED_TEXT[:-1]}; {stop}\n" if str(stop) else STOPPED_TEXT)
        return STOPPED


def _run(words: list[str]) -> int:
    name = words[0] if words else "--help"
    commands = {command.NAME: command for command in COMMANDS}
    if name in ("-h", "--help"):
        sys.stdout.write(_overview())
        return DONE
    if name == "--version":
        from importlib import metadata  # slow to import

        sys.stdout.write(f"cram-hf {metadata.version('cram-hf')}\n")
        return DONE
    if name not in commands:
        raise ValueError(f"cram-hf: unknown command {name}{_meant(name, commands)}; there are {', '.join(commands)}.")
    try:
        args = _parser(commands[name]).parse(words[1:])
    except SystemExit:  # after --help
        return DONE
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.WARNING)
    command = _imported(name.replace("-", "_"))
    try:
        result = command.run(args)
    except Unsaved as error:
        _print(command, args, error.result)
        raise
    _print(command, args, result)
    return ANSWER_IS_NO if result.get("ok") is False else DONE


def _print(command: Any, args: argparse.Namespace, result: dict[str, Any]) -> None:
    sys.stdout.write((json.dumps(result, indent=1) if args.json else command.text(result)) + "\n")


def _imported(module: str) -> Any:
    """The module that does a command. Ctrl-C ends the process at once meanwhile: some libraries swallow it there."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        return import_module(f".{module}", __name__)
    signal.signal(signal.SIGINT, _stop_at_once)
    try:
        return import_module(f".{module}", __name__)
    finally:
        signal.signal(signal.SIGINT, before)


def _stop_at_once(*_: object) -> NoReturn:
    os.write(2, STOPPED_TEXT.encode())
    os._exit(STOPPED)


def _parser(command: Any) -> Parser:
    """The parser of one command; texts are wrapped, the example is not."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog=f"cram-hf {command.NAME}", formatter_class=formatter, allow_abbrev=False)
    command.add(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.description = textwrap.fill(parser.description or "", 100)
    return parser


def _overview() -> str:
    """The help text that lists the commands, each with the first sentence of its description."""
    names = [command.NAME for command in COMMANDS]
    sentences = [" ".join((_parser(command).description or "").split()).partition(". ")[0] for command in COMMANDS]
    lines = [
        textwrap.fill(sentence.rstrip("."), 100, initial_indent=f"  {name:12}", subsequent_indent=" " * 14)
        for name, sentence in zip(names, sentences, strict=True)
    ]
    return "\n".join(
        [
            "usage: cram-hf COMMAND ...\n\nWhat can be done with a model after training.\n",
            *lines,
            "\ncram-hf COMMAND --help explains one and shows an example; --json prints its result as JSON.\n",
        ]
    )


def _meant(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
