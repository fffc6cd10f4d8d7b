"""Pushes against a Hub on this machine: what goes there, what comes back, what is left when it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from cli_fixtures import saved
from huggingface_hub import ModelCard, ModelCardData
from loopback_hub import TOKEN, Fault, LoopbackHub
from results_fixtures import make_results
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    pipeline,
)

from cram_hf import card_bare, compressible_weights, parse_compressor
from cram_hf.card import card
from cram_hf.cli import main
from cram_hf.export import export
from cram_hf.packed import FILE_NAME, save_packed
from cram_hf.publish import PushError, publish, read_folder

STAYS = {
    "training_args.bin": b"args",
    "optimizer.pt": b"optimizer",
    "trainer_state.json": b"{}",
    "eval_predictions.json": b"{}",
    "all_results.json": b"{}",
    "events.out.tfevents.1": b"log",
    "notes.txt": b"mine",
    "checkpoint-5/model.safetensors": b"old",
}


@pytest.fixture
def hub():
    with LoopbackHub() as running:
        yield running


@pytest.fixture
def slept(hub, monkeypatch, tmp_path):
    """This process talks to the Hub of the test; the seconds huggingface_hub would have waited."""
    return hub.use(monkeypatch, tmp_path / "home")


@pytest.fixture
def run_folder(make_model, tmp_path) -> Path:
    """The folder that a run leaves behind, with everything that must stay at home."""
    folder = tmp_path / "run"
    saved(make_model("question_answering"), folder)
    results = make_results(command="python run_squad.py '/home/some one/my x.yaml'", model="/home/someone/minilm")
    results.save(folder / "results.json")
    (folder / "curve.png").write_bytes(b"\x89PNG")
    (folder / "README.md").write_text(card(results, picture="curve.png", base_model="google-bert/bert-base-uncased"))
    for name, content in STAYS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def state_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def equal(model: PreTrainedModel, other: PreTrainedModel) -> bool:
    a, b = model.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_goes_to_a_private_repository_and_comes_back_bit_for_bit(hub, slept, run_folder, tmp_path):
    before = state_of(run_folder)
    done = publish(run_folder, "minilm-squad")
    assert (done.repo_id, done.private, done.url) == ("me/minilm-squad", True, f"{hub.url}/me/minilm-squad")
    files = hub.repos["me/minilm-squad"].files()
    assert sorted(files) == [
        ".gitattributes",
        "README.md",
        "config.json",
        "curve.png",
        "model.safetensors",
        "results.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert {name: len(content) for name, content in files.items() if name != ".gitattributes"} == done.files
    back = AutoModelForQuestionAnswering.from_pretrained("me/minilm-squad", cache_dir=tmp_path / "fresh")
    assert equal(back, AutoModelForQuestionAnswering.from_pretrained(run_folder))
    tokenizer = AutoTokenizer.from_pretrained("me/minilm-squad", cache_dir=tmp_path / "fresh")
    assert tokenizer("where is the ferry")["input_ids"] == [2, 5, 6, 7, 8, 3]
    assert state_of(run_folder) == before


def test_an_export_answers_in_a_pipeline_after_the_round_trip(hub, slept, make_model, tmp_path):
    model = make_model("sequence_classification").eval()
    saved(model, tmp_path / "dense")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "dense")
    weights = compressible_weights(model)
    export(model, tokenizer, parse_compressor("nm:2:4"), tmp_path / "pruned", weights=weights)
    publish(tmp_path / "pruned", "me/pruned", private=False)
    assert not hub.repos["me/pruned"].private
    run = pipeline("text-classification", model="me/pruned", model_kwargs={"cache_dir": tmp_path / "fresh"})
    local = pipeline("text-classification", model=str(tmp_path / "pruned"))
    assert run("where is the ferry?") == local("where is the ferry?")
    assert equal(run.model, AutoModelForSequenceClassification.from_pretrained(tmp_path / "pruned"))
    assert float((run.model.bert.encoder.layer[0].attention.self.query.weight == 0).float().mean()) == 0.5


def test_the_card_there_is_valid_and_names_the_repository(hub, slept, run_folder):
    publish(run_folder, "me/x", metadata={"license": "mit", "datasets": ["rajpurkar/squad"], "tags": ["extra"]})
    there = ModelCard.load("me/x")
    there.validate()  # asks the Hub of the test
    assert isinstance(there.data, ModelCardData)
    assert there.data.base_model == "google-bert/bert-base-uncased"
    assert there.data.license == "mit"
    assert there.data.datasets == ["rajpurkar/squad"]
    assert there.data.metrics == ["f1", "exact_match"]
    assert there.data.pipeline_tag == "question-answering"
    assert there.data.tags == ["cram", "prunable", "extra"]
    scores = [(r.metric_name, r.metric_value) for r in there.data.eval_results if r.metric_type == "f1"]
    assert scores == [
        *(("f1, dense", 80.0), ("f1, topk:0.5", 76.0), ("f1, topk:0.8", 40.0)),
        *(("f1, topk:0.5:layer", 72.0), ("f1, nm:2:4", 70.0)),
    ]
    assert 'AutoModelForQuestionAnswering.from_pretrained("me/x")' in there.text
    assert "path/to/this/model" not in there.text


def test_no_path_of_this_machine_goes_there(hub, slept, run_folder):
    publish(run_folder, "me/x")
    files = hub.repos["me/x"].files()
    assert not [name for name, content in files.items() if b"some one" in content or b"someone" in content]
    there = json.loads(files["results.json"])
    assert (there["command"], there["model"]) == ("python run_squad.py 'my x.yaml'", "minilm")


def test_more_files_go_only_when_they_are_named(hub, slept, run_folder):
    publish(run_folder, "me/x", include=["eval_*.json", "checkpoint-5/*"])
    extra = set(hub.repos["me/x"].files()) & STAYS.keys()
    assert extra == {"eval_predictions.json", "checkpoint-5/model.safetensors"}
    with pytest.raises(ValueError, match=r"--include logs: .*run holds no such file"):
        publish(run_folder, "me/y", include=["logs"])


def test_a_report_beside_the_card_is_linked_and_goes_too(run_folder):
    assert "report.html" not in read_folder(run_folder, "me/model").files
    (run_folder / "report.html").write_text("<title>a report</title>")
    files = read_folder(run_folder, "me/model").files
    assert files["report.html"] == run_folder / "report.html"
    assert files["README.md"].decode().count("(report.html)") == 1


def test_a_pruned_folder_without_a_card_gets_one_that_claims_no_score(hub, slept, make_model, tmp_path):
    source = saved(make_model("sequence_classification"), tmp_path / "dense")
    assert main(["prune", source, "--to", "topk:0.5", "--out", str(tmp_path / "pruned")]) == 0
    publish(tmp_path / "pruned", "me/pruned")
    there = ModelCard.load("me/pruned")
    there.validate()
    assert there.data.tags == ["pruned", "sparse", "unstructured"]
    assert there.data.pipeline_tag == "text-classification"
    assert "dense **pruned in one shot: `topk:0.5`** by magnitude. 50.0 % of the" in there.text
    assert "No score was recorded with it." in there.text
    assert "## How to prune further" in there.text
    assert str(tmp_path) not in there.content + hub.repos["me/pruned"].files()["pruning.json"].decode()
    assert "Trained by" not in there.text
    assert not (tmp_path / "pruned" / "README.md").exists()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"compressors": ["topk:0.5", "nm:2:4"], "rho": 0.01},
            "- Trained by: CrAM+ (dense and compressed gradient), rho 0.01, one of `topk:0.5`, `nm:2:4` drawn",
        ),
        ({"compressors": ["topk:0.5"], "plus": False}, "- Trained by: CrAM (compressed gradient), `topk:0.5`\n"),
        ({"compressors": ["topk:0"], "plus": False, "rho": 0.05}, "- Trained by: SAM, rho 0.05\n"),
        ({"learning_rate": 1e-4}, None),
    ],
)
def test_the_card_of_a_pruned_folder_says_how_the_model_was_trained(config, said, make_model, tmp_path):
    source = saved(make_model("sequence_classification"), tmp_path / "dense")
    make_results(config=config).save(tmp_path / "dense" / "results.json")
    assert main(["prune", source, "--to", "topk:0.5", "--out", str(tmp_path / "pruned")]) == 0
    card = card_bare.bare_card(tmp_path / "pruned")
    assert said in card if said else "Trained by" not in card
    assert ("- cram\n" in card) == (said is not None and "CrAM" in said)


def test_a_packed_folder_says_how_to_unpack_it(hub, slept, qa_model, tmp_path):
    qa_model.config.save_pretrained(tmp_path / "packed")
    save_packed(qa_model, tmp_path / "packed" / FILE_NAME)
    assert card_bare.PACKED == FILE_NAME
    publish(tmp_path / "packed", "me/packed")
    files = hub.repos["me/packed"].files()
    assert files[FILE_NAME] == (tmp_path / "packed" / FILE_NAME).read_bytes()
    assert b"hf download me/packed --local-dir packed\ncram-hf unpack packed --out model" in files["README.md"]
    assert "library_name" not in yaml.safe_load(files["README.md"].decode().split("---")[1])


def test_a_model_that_is_there_is_replaced_only_when_asked(hub, slept, run_folder, qa_model, tmp_path):
    publish(run_folder, "me/x")
    first = hub.repos["me/x"].branches["main"]
    qa_model.config.save_pretrained(tmp_path / "packed")
    save_packed(qa_model, tmp_path / "packed" / FILE_NAME)
    with pytest.raises(PushError, match=r"^me/x holds a model already \(model\.safetensors\): give --replace"):
        publish(tmp_path / "packed", "me/x")
    assert hub.repos["me/x"].branches["main"] == first
    done = publish(tmp_path / "packed", "me/x", replace=True)
    assert done.removed == ["model.safetensors"]  # else from_pretrained would load the old model
    assert FILE_NAME in hub.repos["me/x"].files()
    assert "model.safetensors" not in hub.repos["me/x"].files()


def test_the_same_folder_twice_is_no_second_commit(hub, slept, run_folder):
    first = publish(run_folder, "me/x")
    again = publish(run_folder, "me/x", replace=True)
    assert again.commit == first.commit
    assert hub.repos["me/x"].messages == ["initial", "Upload model"]


def test_a_branch_is_made_and_a_pull_request_leaves_main_alone(hub, slept, run_folder):
    publish(run_folder, "me/x", revision="sparse")
    repo = hub.repos["me/x"]
    assert "model.safetensors" in repo.files("sparse")
    assert "model.safetensors" not in repo.files("main")
    done = publish(run_folder, "me/x", create_pr=True)
    assert done.url == f"{hub.url}/me/x/discussions/1"
    assert "model.safetensors" in repo.files("refs/pr/1")
    assert "model.safetensors" not in repo.files("main")
    with pytest.raises(ValueError, match="--create-pr goes to main, --revision sparse to a branch"):
        publish(run_folder, "me/x", create_pr=True, revision="sparse")


def test_nothing_private_goes_into_a_repository_that_is_public(hub, slept, run_folder):
    publish(run_folder, "me/open", private=False)
    with pytest.raises(PushError, match=r"^me/open exists and is public, and private was asked for: give --public"):
        publish(run_folder, "me/open", replace=True)


@pytest.mark.parametrize("kind", ["model.safetensors", "config.json"])
def test_a_connection_cut_in_the_middle_of_a_file_is_tried_again(kind, hub, slept, run_folder, tmp_path):
    hub.faults = [Fault("PUT /lfs/", times=2), Fault(f"GET .*resolve.*{kind}", times=2)]
    publish(run_folder, "me/x")
    assert [line for line in hub.requests if line.startswith("PUT") and line.endswith("cut")]
    back = AutoModelForQuestionAnswering.from_pretrained("me/x", cache_dir=tmp_path / "fresh")
    assert equal(back, AutoModelForQuestionAnswering.from_pretrained(run_folder))
    assert hub.repos["me/x"].files()["model.safetensors"] == (run_folder / "model.safetensors").read_bytes()


def test_too_many_requests_are_waited_out(hub, slept, run_folder):
    hub.faults = [Fault("preupload", 429, {"Retry_After": "7"})]
    publish(run_folder, "me/x")
    assert slept == [8.0]  # huggingface_hub adds a second


FAILURES = {
    "no token": (Fault("create", 401), r"there is no valid access token; run `hf auth login`, or set HF_TOKEN"),
    "not ours": (Fault("create", 403), "this token may not write there; take a name under your own account"),
    "rate": (Fault("create", 429, {"Retry_After": "60"}), r"fewer requests \(429\); wait 60 seconds"),
    "500 midway": (Fault("commit/main", 500), r"the Hub has a problem of its own \(500\)"),
    "500 always": (Fault("preupload", 500, times=9), r"the Hub has a problem of its own \(500\)"),
    "changed": (Fault("commit/main", 412), r"it was changed meanwhile \(412: made up\)"),
    "no answer": (Fault("commit/main"), "no connection to http://127.0.0.1:.*, or it broke"),
    "cut always": (Fault("PUT /lfs/", times=99), "Error while uploading '.*' to the Hub: no connection to http"),
    "teapot": (Fault("lfs/objects/batch", 418), "the Hub answers 418: made up"),
}


@pytest.mark.parametrize(("fault", "said"), FAILURES.values(), ids=FAILURES)
def test_a_push_that_fails_leaves_all_of_it_here_and_nothing_there(fault, said, hub, slept, run_folder):
    before = state_of(run_folder)
    hub.faults = [fault]
    with pytest.raises(PushError, match=said) as caught:
        publish(run_folder, "me/x", private=False, metadata={"license": "mit"}, token=TOKEN)
    told = str(caught.value)
    assert told.startswith("me/x: not pushed: ")
    retry = f"cram-hf push {run_folder} --repo-id me/x --license mit --public"
    assert told.endswith(f". Nothing on disk has changed. To try again: {retry}")
    assert "\n" not in told
    assert TOKEN not in told
    assert state_of(run_folder) == before
    assert "me/x" not in hub.repos or sorted(hub.repos["me/x"].files()) == [".gitattributes"]
    hub.faults = []
    publish(run_folder, "me/x", private=False)
    assert "model.safetensors" in hub.repos["me/x"].files()


def test_a_commit_whose_answer_is_lost_is_found_there_by_the_next_try(hub, slept, run_folder):
    hub.faults = [Fault("commit/main", done=True)]
    with pytest.raises(PushError, match=r"no connection to .*, or it broke"):
        publish(run_folder, "me/x")
    commit = hub.repos["me/x"].branches["main"]
    with pytest.raises(PushError, match="me/x holds a model already"):
        publish(run_folder, "me/x")
    assert publish(run_folder, "me/x", replace=True).commit == commit


def test_metadata_that_the_hub_refuses_is_told_before_a_file_is_sent(hub, slept, run_folder):
    with pytest.raises(PushError, match=r'Invalid metadata in README\.md\. - "license" must be a string'):
        publish(run_folder, "me/x", metadata={"license": ["mit"]})
    assert not hub.blobs


@pytest.mark.parametrize(("name", "content"), [("README.md", f"key: {TOKEN}"), ("tokenizer.json", TOKEN)])
def test_a_token_in_a_file_stops_the_push(name, content, hub, slept, run_folder):
    (run_folder / name).write_text(content)
    with pytest.raises(ValueError, match=f"^{name} holds an access token and was not uploaded"):
        publish(run_folder, "me/x")
    assert hub.requests == []


def test_parts_of_a_large_model_go_together_or_not_at_all(make_model, tmp_path):
    make_model().save_pretrained(tmp_path, max_shard_size="10KB")
    parts = [name for name in read_folder(tmp_path, "me/x").files if name.startswith("model-")]
    assert len(parts) > 1
    (tmp_path / parts[0]).unlink()
    with pytest.raises(ValueError, match=f"lacks {parts[0]}, which model.safetensors.index.json names"):
        read_folder(tmp_path, "me/x")
