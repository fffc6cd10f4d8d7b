"""`trainer.push_to_hub()` and `--push_to_hub`: saved first, pushed last, and a token in no file."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from conftest import rows, tiny_config
from huggingface_hub import ModelCard
from loopback_hub import TOKEN, Fault, LoopbackHub
from safetensors.torch import load_file
from squad_fixtures import RECORDS, nested, tiny_tokenizer, write_json
from trainer_fixtures import arguments, trainer
from transformers import AutoModelForSequenceClassification, BertForQuestionAnswering

from cram_hf.publish import PushError
from cram_hf.runner import main
from cram_hf.tasks.squad import Squad


@pytest.fixture
def hub():
    with LoopbackHub() as running:
        yield running


@pytest.fixture(autouse=True)
def online(hub, monkeypatch, tmp_path):
    """This process talks to the Hub of the test."""
    return hub.use(monkeypatch, tmp_path / "home")


def accuracy(found) -> dict[str, float]:
    return {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())}


def built(folder: Path, model, **changes):
    """A trainer for three classes that evaluates dense and at 50 %."""
    settings = {
        "eval_dataset": rows("sequence_classification", 8, seed=1),
        "compute_metrics": accuracy,
        "compressors": ["topk:0.5"],
        "eval_compressors": ["topk:0.5"],
        "max_steps": 2,
    }
    return trainer(folder, model, "sequence_classification", **settings | changes)


def assert_no_token(folder: Path, token: str = TOKEN) -> list[str]:
    """Reads every byte of a folder; returns the files' names."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert token.encode() not in path.read_bytes(), path
    return sorted({path.name for path in files})


def test_a_users_own_training_goes_to_the_hub_with_our_card(hub, make_model, tmp_path):
    ours = built(tmp_path / "out", make_model("sequence_classification"), hub_model_id="me/mini")
    ours.train()
    ours.evaluate()
    done = ours.push_to_hub(license="mit", dataset_tags="nyu-mll/glue", tags="extra")
    repo = hub.repos["me/mini"]
    assert (done.url, done.private, repo.private) == (f"{hub.url}/me/mini", True, True)
    assert set(repo.files()) == {".gitattributes", "README.md", "config.json", "model.safetensors"}
    there = ModelCard.load("me/mini")
    there.validate()
    assert there.data.tags == ["cram", "prunable", "extra"]
    assert (there.data.license, there.data.datasets) == ("mit", ["nyu-mll/glue"])
    scores = {r.metric_name: r.metric_value for r in there.data.eval_results}
    logged = next(entry for entry in reversed(ours.state.log_history) if "eval_accuracy" in entry)
    assert scores == {
        "accuracy, dense": logged["eval_accuracy"],
        "accuracy, topk:0.5": logged["eval_topk_0.5_accuracy"],
    }
    assert "| topk:0.5    |                  50.0 % |" in there.text
    assert "- Method: CrAM+ (dense and compressed gradient), rho 0.1, `topk:0.5`" in there.text
    back = AutoModelForSequenceClassification.from_pretrained("me/mini", cache_dir=tmp_path / "fresh")
    here = ours.model.state_dict()
    assert all(torch.equal(tensor, here[name]) for name, tensor in back.state_dict().items())


def test_without_an_evaluation_the_card_claims_no_score(hub, make_model, tmp_path):
    ours = built(tmp_path / "mini", make_model("sequence_classification"))
    ours.push_to_hub(private=False)
    assert not hub.repos["me/mini"].private
    there = ModelCard.load("me/mini")
    assert there.data.tags == ["cram", "prunable"]
    assert "Trained for `topk:0.5`. No score was recorded with it." in there.text
    assert "model-index" not in there.content


def test_a_token_given_to_the_arguments_is_used_and_in_no_file(hub, make_model, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    changes = {"hub_token": TOKEN, "push_to_hub": True, "save_strategy": "steps", "save_steps": 1}
    ours = built(tmp_path / "mini", make_model("sequence_classification"), **changes)
    ours.train()
    ours.evaluate()
    ours.push_to_hub()
    assert "model.safetensors" in hub.repos["me/mini"].files()
    names = assert_no_token(tmp_path / "mini")
    assert {"training_args.bin", "trainer_state.json", "optimizer.pt", "README.md"} <= set(names)
    assert not any(TOKEN.encode() in content for content in hub.repos["me/mini"].files().values())
    saved = torch.load(tmp_path / "mini" / "training_args.bin", weights_only=False)
    assert (saved.hub_token, saved.rho, ours.args.hub_token) == (None, 0.1, TOKEN)


def test_pickled_arguments_hold_all_but_the_token(tmp_path):
    args = arguments(tmp_path, hub_token=TOKEN, compressors=["nm:2:4"])
    assert TOKEN.encode() not in pickle.dumps(args)
    again = pickle.loads(pickle.dumps(args))
    assert (again.hub_token, again.compressors) == (None, ["nm:2:4"])
    assert copy.copy(args).rho == args.rho
    assert TOKEN not in args.to_json_string() + str(args) + repr(args)


def test_nothing_is_pushed_before_the_end(hub, make_model, tmp_path):
    changes = {"push_to_hub": True, "save_strategy": "steps", "save_steps": 1}
    ours = built(tmp_path / "mini", make_model("sequence_classification"), **changes)
    ours.train()
    assert list(hub.repos["me/mini"].files()) == [".gitattributes"]


def test_a_token_that_is_refused_is_told_before_training(hub, make_model, tmp_path):
    with pytest.raises(PushError, match=r"^mini: not pushed: there is no valid access token; run `hf auth login`"):
        built(tmp_path / "mini", make_model("sequence_classification"), push_to_hub=True, hub_token="hf_wrong")


def test_a_push_that_fails_leaves_the_saved_model_and_the_command(hub, make_model, tmp_path):
    ours = built(tmp_path / "mini", make_model("sequence_classification"), hub_private_repo=False)
    hub.faults = [Fault("commit/main", 500)]
    with pytest.raises(PushError) as caught:
        ours.push_to_hub()
    folder = tmp_path / "mini"
    command = f"cram-hf push {folder} --repo-id mini --replace --message 'End of training' --public"
    assert str(caught.value).endswith(f"To try again: {command}")
    here = ours.model.state_dict()
    assert all(torch.equal(tensor, here[name]) for name, tensor in load_file(folder / "model.safetensors").items())
    assert ours.push_to_hub(blocking=False).result(timeout=60).repo_id == "me/mini"


@pytest.fixture
def workshop(tmp_path) -> list[str]:
    """A script's flags: a tiny model, a set of three questions."""
    tokenizer, config = tiny_tokenizer(), tiny_config()
    config.vocab_size, config.max_position_embeddings = len(tokenizer), 128
    BertForQuestionAnswering(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    data = str(tmp_path / "squad.json")
    write_json(tmp_path / "squad.json", nested(RECORDS))
    return [
        *("--model_name_or_path", str(tmp_path / "model"), "--train_file", data, "--validation_file", data),
        *("--do_train", "--do_eval", "--max_steps", "1", "--max_seq_length", "64", "--doc_stride", "16"),
        *(
            "--compressors",
            "topk:0.5",
            "--eval_compressors",
            "topk:0.5",
            "--disable_tqdm",
            "true",
            "--save_strategy",
            "no",
        ),
        *("--output_dir", str(tmp_path / "mini"), "--push_to_hub", "--hub_token", TOKEN),
    ]


def test_a_script_pushes_its_whole_result_at_the_very_end(hub, workshop, tmp_path, capsys):
    assert main(Squad(), workshop) == 0
    assert capsys.readouterr().out.endswith(f"Pushed: {hub.url}/me/mini\n")
    assert {"README.md", "model.safetensors", "results.json", "tokenizer.json"} <= set(hub.repos["me/mini"].files())
    assert "training_args.bin" not in hub.repos["me/mini"].files()
    assert hub.repos["me/mini"].messages == ["initial", "End of training"]
    there = ModelCard.load("me/mini")
    assert next(r.metric_name for r in there.data.eval_results) == "f1, dense"
    assert_no_token(tmp_path / "mini")


def test_a_script_whose_push_fails_has_written_everything(hub, workshop, tmp_path, capsys):
    hub.faults = [Fault("preupload", 403)]
    assert main(Squad(), workshop) == 2
    told = capsys.readouterr().err
    assert f"To try again: cram-hf push {tmp_path / 'mini'} --repo-id me/mini" in told
    assert TOKEN not in told
    names = assert_no_token(tmp_path / "mini")
    assert {"README.md", "model.safetensors", "results.json", "training_args.bin"} <= set(names)


def test_ctrl_c_while_a_script_pushes_does_not_ask_for_the_training_again(workshop, tmp_path, capsys, monkeypatch):
    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cram_hf.publish.push.HfApi.create_commit", stop)
    assert main(Squad(), workshop) == 130
    told = capsys.readouterr().err
    assert (
        "error: stopped by Ctrl-C; me/mini: stopped before the Hub confirmed it. Nothing on disk has changed. To"
        in told
    )
    assert f"again: cram-hf push {tmp_path / 'mini'} --repo-id me/mini" in told
    assert "the same command goes on" not in told
    assert TOKEN not in told
    assert {"README.md", "model.safetensors", "results.json"} <= {path.name for path in (tmp_path / "mini").iterdir()}


def test_several_seeds_are_not_pushed_over_each_other(workshop, capsys):
    assert main(Squad(), [*workshop, "--seeds", "1", "2"]) == 2
    assert "push one of them afterwards with cram-hf push" in capsys.readouterr().err
