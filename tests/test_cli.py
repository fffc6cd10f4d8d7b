"""The command line: one result on stdout, exit codes that mean something, one clear message for a mistake."""

from __future__ import annotations

import configparser
import json
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

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


def test_the_console_script_calls_main():
    scripts = configparser.ConfigParser()
    scripts.read(Path(__file__).parents[1] / "setup.cfg")
    assert scripts["options.entry_points"]["console_scripts"].strip() == "cram-hf = cram_hf.cli:main"
