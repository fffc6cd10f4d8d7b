"""The command line: one result on stdout, exit codes that mean something, one clear message for a mistake."""

from __future__ import annotations

import configparser
import json
import signal
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest

from cram_hf import cli
from cram_hf.cli import COMMANDS, main


@pytest.fixture
def command(monkeypatch):
    """A command `fake-one` whose flag `--answer` is its result."""

    def add(parser):
        parser.description, parser.epilog = "Answers.", "example: cram-hf fake-one x"
        parser.add_argument("model", metavar="MODEL")
        parser.add_argument("--answer", type=int, default=7)

    fake = SimpleNamespace(
        NAME="fake-one", add=add, run=lambda args: {"model": args.model, "answer": args.answer}, text=str
    )
    monkeypatch.setattr(cli, "COMMANDS", (fake, SimpleNamespace(NAME="other")))
    monkeypatch.setitem(sys.modules, "cram_hf.cli.fake_one", fake)
    return fake


def test_the_result_goes_to_stdout_as_text_or_as_json(command, capsys):
    command.text = lambda result: f"the answer is {result['answer']}"
    assert main(["fake-one", "bert"]) == 0
    assert capsys.readouterr().out == "the answer is 7\n"
    assert main(["fake-one", "bert", "--answer", "8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"model": "bert", "answer": 8}


@pytest.mark.parametrize(("ok", "code"), [({}, 0), ({"ok": True}, 0), ({"ok": False}, 1)])
def test_a_result_that_says_no_exits_with_1_and_is_printed(ok, code, command, capsys):
    command.run = lambda args: {"found": None, **ok}
    assert main(["fake-one", "bert", "--json"]) == code
    assert json.loads(capsys.readouterr().out) == {"found": None, **ok}


@pytest.mark.parametrize("error", [ValueError, OSError, NotImplementedError, ImportError])
def test_a_users_mistake_is_one_line_and_exits_with_2(error, command, capsys, monkeypatch):
    def run(args):
        raise error("give a model")

    command.run = run
    assert main(["fake-one", "bert"]) == 2
    assert capsys.readouterr() == ("", "error: give a model\n")
    monkeypatch.setenv("CRAM_HF_TRACEBACK", "1")
    assert main(["fake-one", "bert"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert told.endswith("error: give a model\n")


def test_a_mistake_of_ours_is_not_hidden(command):
    command.run = lambda args: {}["no such key"]
    with pytest.raises(KeyError):
        main(["fake-one", "bert"])


def test_ctrl_c_is_one_line_and_not_success(command, capsys):
    def run(args):
        raise KeyboardInterrupt

    command.run = run
    assert main(["fake-one", "bert"]) == 130
    assert capsys.readouterr().err == "error: stopped by Ctrl-C\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fake-on"], "unknown command fake-on (did you mean fake-one?); there are fake-one, other."),
        (["xyz"], "unknown command xyz; there are fake-one, other."),
        (["fake-one", "m", "--anwser", "3"], "cram-hf fake-one: unknown flag --anwser (did you mean --answer?). See"),
        (["fake-one", "--anwser=3"], "unknown flag --anwser (did you mean --answer?)"),
        (["fake-one", "m", "--ans", "3"], "unknown flag --ans (did you mean --answer?)"),
        (["fake-one", "--q", "--jsn"], "unknown flag --q; unknown flag --jsn (did you mean --json?)"),
        (["fake-one"], "the following arguments are required: MODEL. See cram-hf fake-one --help."),
        (["fake-one", "m", "--answer", "x"], "argument --answer: invalid int value: 'x'"),
        (["fake-one", "m", "n"], "unrecognized arguments: n"),
    ],
)
def test_typing_errors_are_told_with_what_was_meant(words, said, command, capsys):
    assert main(words) == 2
    out, told = capsys.readouterr()
    assert said in told
    assert (out, told.count("\n")) == ("", 1)


def test_help_of_a_command_shows_its_example_and_exits_with_0(command, capsys):
    assert main(["fake-one", "--help"]) == 0
    told = capsys.readouterr().out
    assert "usage: cram-hf fake-one" in told
    assert told.endswith("example: cram-hf fake-one x\n")


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_without_a_command_all_are_listed_with_their_first_sentence(words, capsys):
    assert main(words) == 0
    told = capsys.readouterr().out
    assert all(f"\n  {command.NAME} " in told for command in COMMANDS)
    assert "\n  unpack      Turn the folder that cram-hf pack wrote into one that from_pretrained loads" in told


def test_the_version_is_the_packages(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cram-hf {metadata.version('cram-hf')}\n"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.NAME)
def test_every_command_has_help_with_an_example(command, capsys):
    assert main([command.NAME, "--help"]) == 0
    told = capsys.readouterr().out
    assert f"example: cram-hf {command.NAME} " in told
    assert "--json" in told


HEAVY = {"torch", "transformers", "datasets", "numpy", "pyarrow", "huggingface_hub", "yaml"}


SWALLOWED = """
import os, signal, sys, time
from cram_hf import cli

def imported(*_):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    except KeyboardInterrupt:
        raise ImportError("a library that swallows it") from None

cli.import_module = imported
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background is born without it
sys.exit(cli.main(["size", "runs/squad"]))
"""


def test_ctrl_c_while_modules_are_imported_cannot_be_swallowed():
    done = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: stopped by Ctrl-C\n")


@pytest.mark.parametrize("mine", [signal.default_int_handler, signal.SIG_IGN])
def test_after_the_import_ctrl_c_is_what_it_was_before(mine, command):
    handlers = []
    command.run = lambda args: {"same": handlers.append(signal.getsignal(signal.SIGINT))}
    before = signal.signal(signal.SIGINT, mine)
    try:
        assert main(["fake-one", "bert"]) == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert handlers == [mine]


QUICK = [["--help"], ["--version"], ["sizes"], ["size", "--spce"], *([command.NAME, "--help"] for command in COMMANDS)]


@pytest.mark.parametrize("words", QUICK, ids=" ".join)
def test_help_and_typing_errors_come_without_what_is_slow_to_import(words):
    code = f"import sys; from cram_hf.cli import main; main({words}); sys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "argparse" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.NAME)
def test_what_a_command_does_is_in_the_module_of_its_name(command):
    module = import_module(f"cram_hf.cli.{command.NAME.replace('-', '_')}")
    assert callable(module.run)
    assert callable(module.text)


def test_words_that_stand_in_the_flags_are_those_of_the_package():
    from cram_hf.bench import ENGINES
    from cram_hf.cli import flags
    from cram_hf.cli.evaluating import TASKS
    from cram_hf.cli.flags.task import ARGUMENTS
    from cram_hf.oneshot import Method
    from cram_hf.packed import FILE_NAME, Precision

    assert tuple(engine.name for engine in ENGINES) == flags.bench.ENGINES
    assert get_args(Method) == flags.prune.METHODS
    assert get_args(Precision) == flags.pack.PRECISIONS
    assert FILE_NAME in cli._parser(flags.pack).description
    assert {task.name: task.Arguments for task in TASKS} == ARGUMENTS


@pytest.mark.parametrize("name", ["sweep", "choose", "tune"])
def test_a_flag_of_several_tasks_says_what_each_does_with_it(name, capsys):
    assert main([name, "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "squad: Tokens of a feature: question, special tokens and a part of the context. glue: Tokens of a" in told
    assert "mlm: Tokens of a row, special ones included. Default: the tokenizer's limit, at most 1024." in told
    assert "squad, glue: Make the features anew, even if cached. mlm: Make the rows anew, even if cached." in told
    assert "--doc_stride VALUE squad: Tokens that neighbouring windows over a long context share." in told


def test_the_console_script_calls_main():
    scripts = configparser.ConfigParser()
    scripts.read(Path(__file__).parents[1] / "setup.cfg")
    assert scripts["options.entry_points"]["console_scripts"].strip() == "cram-hf = cram_hf.cli:main"
