"""Where a result came from, and that tokens and foreign commits never get into it."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from results_fixtures import TOKEN, make_results

from cram_hf import provenance
from cram_hf.provenance import command_line, environment


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, "-C", str(folder), *words], check=True, capture_output=True)


@pytest.mark.parametrize(
    "words",
    [
        ["--hub_token", TOKEN],
        ["--hub_token", "anything"],
        ["--hub_token=anything"],
        ["--hub-token", "anything"],
        ["--hub_tok", "anything"],
        ["--token=anything"],
        [TOKEN],
        [f"--unknown={TOKEN}"],
    ],
)
def test_tokens_are_dropped_from_the_command(words):
    assert command_line(["run.py", "--a", "1", *words, "--b"]) == "python run.py --a 1 --b"


def test_a_token_flag_without_value_takes_no_other_flag_along():
    assert command_line(["run.py", "--token", "--seed", "1"]) == "python run.py --seed 1"


def test_the_command_is_quoted_so_that_a_shell_reads_it_back():
    words = ["run_squad.py", "a b.yaml", "--label", "it's $HOME", "--tokenizer_name", "bert"]
    assert shlex.split(command_line(words)) == ["python", *words]


def test_the_folder_of_a_module_run_with_python_m_is_left_out():
    assert command_line(["/home/me/cram/run_squad.py", "/data/x.yaml"]) == "python run_squad.py /data/x.yaml"


def test_the_environment_fits_the_schema_and_names_no_folder():
    found = environment(threads=2, gpu="NVIDIA H100")
    assert make_results(**found).machine["gpu"] == "NVIDIA H100"
    assert found["machine"]["threads"] == 2
    assert {"torch", "transformers", "python"} <= found["versions"].keys()
    assert str(Path.home()) not in str(found)


def test_the_commit_is_that_of_the_packages_own_checkout(tmp_path, monkeypatch):
    package = tmp_path / "checkout" / "cram_hf"
    package.mkdir(parents=True)
    module = package / "provenance.py"
    module.write_text("a")
    monkeypatch.setattr(provenance, "__file__", str(module))
    git(package.parent, "init")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-m", "first")
    found = environment(threads=1)
    assert len(found["commit"]) == 12
    assert found["dirty"] is False
    (package / "notes.txt").write_text("untracked files do not count")
    assert environment(threads=1)["dirty"] is False
    module.write_text("b")
    assert environment(threads=1)["dirty"] is True


def test_the_commit_of_a_project_that_merely_installs_the_package_is_not_taken(tmp_path, monkeypatch):
    (tmp_path / "site-packages" / "cram_hf").mkdir(parents=True)
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "theirs")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "site-packages" / "cram_hf" / "provenance.py"))
    assert environment(threads=1)["commit"] is None


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    found = environment(threads=1)
    assert (found["commit"], found["dirty"]) == (None, False)
