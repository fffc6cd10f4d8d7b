"""`cram-hf push`: what it prints, and one clear line with exit code 2 for everything that can be wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cli_fixtures import saved
from loopback_hub import TOKEN, LoopbackHub
from results_fixtures import make_results
from safetensors.torch import load_file

from cram_hf.card import card
from cram_hf.cli import main

ROOT = Path(__file__).parents[1]


@pytest.fixture
def hub():
    with LoopbackHub() as running:
        yield running


@pytest.fixture
def online(hub, monkeypatch, tmp_path):
    """This process talks to the Hub of the test."""
    return hub.use(monkeypatch, tmp_path / "home")


@pytest.fixture
def folder(make_model, tmp_path, capsys) -> str:
    results = make_results()
    path = saved(make_model(), tmp_path / "run")
    results.save(tmp_path / "run" / "results.json")
    (tmp_path / "run" / "README.md").write_text(card(results))
    capsys.readouterr()  # the progress bars of saving
    return path


def told(words: list[str], capsys) -> str:
    """The one line on stderr of a command that must fail, progress bars left out."""
    assert main(["push", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.replace("\r", "\n").splitlines() if "it/s]" not in line and "B/s]" not in line]
    assert [line for line in lines if line] == [lines[-1]]
    assert lines[-1].startswith("error: ")
    assert TOKEN not in err
    return lines[-1]


def test_the_address_the_commit_and_the_files_are_told(folder, hub, online, capsys):
    assert main(["push", folder, "--repo-id", "mini", "--license", "mit", "--base-model", "a/b"]) == 0
    said = capsys.readouterr().out.splitlines()
    commit = hub.repos["me/mini"].branches["main"]
    assert said[0] == f"{hub.url}/me/mini (private), commit {commit[:12]}"
    assert said[1].startswith("6 files, 0.0")
    assert said[1].endswith("README.md, config.json, model.safetensors, results.json, tokenizer.json, "
                            "tokenizer_config.json")  # fmt: skip
    assert b"base_model: a/b\n" in hub.repos["me/mini"].files()["README.md"]


def test_the_result_as_json(folder, hub, online, capsys):
    assert main(["push", folder, "--repo-id", "me/mini", "--public", "--message", "first", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    repo = hub.repos["me/mini"]
    sizes = {name: len(content) for name, content in repo.files().items() if name != ".gitattributes"}
    assert found == {
        "folder": folder,
        "repo_id": "me/mini",
        "url": f"{hub.url}/me/mini",
        "commit": repo.branches["main"],
        "private": False,
        "files": sizes,
        "removed": [],
        "dry_run": False,
    }
    assert (repo.private, repo.messages[-1]) == (False, "first")


def test_a_dry_run_asks_nothing_of_the_hub(folder, hub, online, capsys):
    assert main(["push", folder, "--repo-id", "me/mini", "--dry-run"]) == 0
    assert f"{folder} to me/mini, not sent: 6 files" in capsys.readouterr().out
    assert hub.requests == []


def test_the_flag_for_the_token_is_used_and_never_shown(folder, hub, online, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert "run `hf auth login`, or set HF_TOKEN" in told([folder, "--repo-id", "me/mini"], capsys)
    assert "(401: Invalid credentials" in told([folder, "--repo-id", "me/mini", "--hub_token", "hf_wrong"], capsys)
    assert main(["push", folder, "--repo-id", "me/mini", "--hub_token", TOKEN]) == 0
    assert TOKEN not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "someone/mini",
            "error: someone/mini: not pushed: this token may not write there; take a name under your own",
        ),
        ("a/b/c", "--repo-id a/b/c: Repo id must be in the form 'repo_name' or 'namespace/repo_name'"),
        ("mi ni", "--repo-id mi ni: Repo id must use alphanumeric chars"),
    ],
)
def test_a_name_that_is_not_ours_or_none_at_all(name, said, folder, online, capsys):
    assert said in told([folder, "--repo-id", name], capsys)


def test_a_name_that_is_taken(folder, hub, online, capsys):
    assert main(["push", folder, "--repo-id", "mini"]) == 0
    capsys.readouterr()
    assert "me/mini holds a model already (model.safetensors): give --replace" in told(
        [folder, "--repo-id", "mini"], capsys
    )
    assert main(["push", folder, "--repo-id", "mini", "--replace"]) == 0
    assert main(["push", folder, "--repo-id", "mini", "--create-pr", "--tags", "new"]) == 0
    assert "/me/mini/discussions/1 (private)" in capsys.readouterr().out


def test_a_folder_that_is_no_model(folder, online, capsys, tmp_path):
    def said(path: object) -> str:
        return told([str(path), "--repo-id", "me/mini"], capsys)

    assert "nowhere does not exist: give the folder of a run, an export" in said(tmp_path / "nowhere")
    assert "config.json is a file, not a folder" in said(Path(folder) / "config.json")
    assert f"holds no model, for there is no config.json in it. Near it: {folder}." in said(tmp_path)
    weights = Path(folder) / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-5])
    assert "model.safetensors is damaged: " in said(folder)
    weights.unlink()
    assert "holds no weights as safetensors: save the model with save_pretrained" in said(folder)
    (Path(folder) / "pytorch_model.bin").touch()
    assert "only pytorch_model.bin; load it and save it again" in said(folder)
    weights.write_bytes(whole)
    (Path(folder) / "README.md").write_text("---\nlicense: [mit\n---\n")
    assert "README.md: the card's metadata cannot be read: while parsing" in said(folder)
    (Path(folder) / "README.md").unlink()
    (Path(folder) / "pruning.json").write_text("{}")
    assert "pruning.json: not the record of cram-hf prune, it lacks model, spec" in said(folder)


def test_no_network_and_no_wish_for_one(folder, hub, capsys, tmp_path, monkeypatch):
    hub.use(monkeypatch, tmp_path / "home")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "not pushed: no connection to http://127.0.0.1:9, or it broke" in told([folder, "--repo-id", "a/b"], capsys)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "not pushed: HF_HUB_OFFLINE is set; unset it. Nothing" in told([folder, "--repo-id", "a/b"], capsys)


def test_ctrl_c_is_told_with_the_command_to_try_again(folder, hub, online, capsys, monkeypatch):
    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    before = {path: path.read_bytes() for path in Path(folder).iterdir()}
    words = [folder, "--repo-id", "mini", "--license", "mit", "--public"]
    with monkeypatch.context() as patch:
        patch.setattr("cram_hf.publish.push.HfApi.create_commit", stop)
        assert main(["push", *words, "--hub_token", TOKEN]) == 130
    assert capsys.readouterr() == (
        "",
        "error: stopped by Ctrl-C; mini: stopped before the Hub confirmed it. Nothing on disk has changed. To try "
        f"again: cram-hf push {folder} --repo-id mini --license mit --public\n",
    )
    assert {path: path.read_bytes() for path in Path(folder).iterdir()} == before
    assert main(["push", *words]) == 0
    assert "model.safetensors" in hub.repos["me/mini"].files()


SCRIPT = """
import sys
from cram_hf.cli import main
sys.exit(main(sys.argv[1:]))
"""


def process(words: list[str], hub: LoopbackHub, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **hub.environment(home)}
    command = [sys.executable, "-c", SCRIPT, *words]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=250)


@pytest.mark.slow
def test_a_process_of_its_own_finds_the_hub_and_the_token_in_the_environment(folder, hub, tmp_path):
    done = process(["push", folder, "--repo-id", "mini"], hub, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert f"{hub.url}/me/mini (private), commit " in done.stdout
    read = process(["size", "me/mini", "--json"], hub, tmp_path / "other home")
    assert read.returncode == 0, read.stderr
    [model] = (tmp_path / "other home").rglob("model.safetensors")
    ours, theirs = load_file(Path(folder) / "model.safetensors"), load_file(model)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
