"""The commands of the documents can be typed: subcommands, flags, values and recipes are those that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cram_hf import CrAMArguments
from cram_hf.cli import COMMANDS, _parser
from cram_hf.config import Parser
from cram_hf.loading import ModelArguments, ScratchArguments
from cram_hf.report import OutputArguments
from cram_hf.tasks.glue_arguments import GlueArguments
from cram_hf.tasks.mlm_arguments import MlmArguments
from cram_hf.tasks.squad_arguments import SquadArguments

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SCRIPTS = {
    "run_squad.py": (ModelArguments, SquadArguments),
    "run_glue.py": (ModelArguments, GlueArguments),
    "run_mlm.py": (ScratchArguments, MlmArguments),
}


def commands(text: str) -> Iterator[list[str]]:
    """The command lines of the code blocks, as words; what only names a command, as `cram-hf COMMAND`, is none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    blocks = [block for language, block in found if language in ("", "bash")]
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        for part in re.split(r" && ", line.removeprefix("$ ")):
            words = shlex.split(part, comments=True) if re.match(r"(cram-hf|python|torchrun|[A-Z_]+=)", part) else []
            while words and ("=" in words[0] or words[0] in ("python", "torchrun", "--nproc_per_node", "2")):
                words.pop(0)
            if (
                len(words) > 1
                and words[1] != "COMMAND"
                and words[1].isidentifier() | ("/" in words[1]) | words[1].startswith("export-")
            ):
                yield words


def told(document: Path, kind: str) -> list[list[str]]:
    return [words for words in commands(document.read_text(encoding="utf-8")) if words[0].startswith(kind)]


def refused(parser: Any, words: list[str]) -> list[str]:
    """The command and what is wrong with it; empty where it can be typed."""
    try:
        parser.parse(words)
    except ValueError as error:
        return [f"{' '.join(words)}: {error}"]
    return []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_cram_hf_command_can_be_typed(document):
    parsers = {command.NAME: _parser(command) for command in COMMANDS}
    assert [line for words in told(document, "cram-hf") for line in refused(parsers[words[1]], words[2:])] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_script_command_names_a_recipe_and_flags_that_exist(document, monkeypatch):
    monkeypatch.chdir(ROOT)  # recipes are named from here
    parsers = {name: Parser((*kinds, CrAMArguments, OutputArguments), "") for name, kinds in SCRIPTS.items()}
    assert [line for script, *words in told(document, "run_") for line in refused(parsers[script], words)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_command_is_overlooked(document):
    text = document.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:bash)?\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line.removeprefix("$ ") for line in "\n".join(blocks).splitlines()]
    typed = [line for line in lines if re.match(r"(cram-hf \w+-?\w* \S|python run_)", line) and "COMMAND" not in line]
    assert len(list(commands(text))) >= len(typed)


def test_the_commands_of_the_troubleshooting_page_are_found():
    page = ROOT / "docs" / "troubleshooting.md"
    assert {words[1] for words in told(page, "cram-hf")} >= {"size", "prune", "pack", "bench", "choose", "push"}
    assert len(told(page, "run_")) == 5


@pytest.mark.parametrize(
    "said",
    [
        "is not empty and holds no checkpoint",
        "holds the results of a finished run",
        "weights hold NaN",
        "matches no weight",
        "updates weights inside the backward pass",
        "holds a model already",
        "HF_HUB_OFFLINE is set",
        "input dimension is a multiple of",
        "the files lack",
    ],
)
def test_the_messages_it_quotes_are_those_of_the_code(said):
    assert said in (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    source = "".join(
        re.sub(r'"\s*\n\s*f?"', "", p.read_text(encoding="utf-8")) for p in (ROOT / "cram_hf").rglob("*.py")
    )
    assert said in source
