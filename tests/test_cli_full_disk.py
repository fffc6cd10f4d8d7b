"""A disk that is full while a command writes: one line that names what was asked for, and nothing half written."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from cli_fixtures import saved

from cram_hf.cli import main

COMMANDS = {
    "prune": ["prune", "MODEL", "--to", "topk:0.5", "--out", "OUT"],
    "pack": ["pack", "MODEL", "--out", "OUT"],
    "unpack": ["unpack", "PACKED", "--out", "OUT"],
}


@pytest.fixture
def small_disk():
    """No file may become larger than 20 kB; the weights of a tiny model are."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def shrink() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))

    yield shrink
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", COMMANDS)
def test_it_is_told_and_leaves_nothing(name, qa_model, tmp_path, capsys, small_disk):
    folders = {"MODEL": saved(qa_model, tmp_path / "model"), "OUT": str(tmp_path / "out")}
    folders["PACKED"] = str(tmp_path / "packed")
    assert main(["pack", folders["MODEL"], "--out", folders["PACKED"]]) == 0
    capsys.readouterr()
    small_disk()
    assert main([folders.get(word, word) for word in COMMANDS[name]]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert "File too large" in lines[0]
    assert folders["OUT"] in lines[0]
    assert not [path for path in Path(tmp_path).iterdir() if path.name not in ("model", "packed")]
