"""The task from data to scores and prediction files: what each flag asks for, and the order of rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from glue_fixtures import FILES, write_glue
from squad_fixtures import SHARED, tiny_tokenizer, write_csv
from transformers import DataCollatorWithPadding, EvalPrediction, TrainingArguments, default_data_collator

from cram_hf.tasks.base import EvalSet, Task, TaskData
from cram_hf.tasks.glue import Glue
from cram_hf.tasks.glue_examples import Part
from cram_hf.tasks.glue_predictions import predictions_file
from cram_hf.tasks.glue_sets import fixed_sample
from cram_hf.tasks.glue_tasks import GLUE_TASKS, Target

EVERYTHING = {"do_train": True, "do_eval": True, "do_predict": True}


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_glue(tmp_path_factory.mktemp("glue")))


def prepare(folder: Path, runs: dict[str, bool], tokenizer: Any = None, **flags: Any) -> TaskData:
    options: dict[str, Any] = {"report_to": [], "use_cpu": True, "disable_tqdm": True}
    training_args = TrainingArguments(output_dir=str(folder / "out"), **options, **runs)
    return Glue().prepare(Glue.Arguments(**flags), tokenizer or tiny_tokenizer(), training_args)


def perfect(found: EvalSet, classes: int) -> np.ndarray:
    """Logits that say what the labels say, in the order of the features."""
    labels = np.asarray(found.features["labels"])
    return labels[:, None].astype(np.float32) if classes == 1 else np.eye(classes, dtype=np.float32)[labels] * 5


def score(found: EvalSet, logits: np.ndarray) -> dict[str, float]:
    return found.compute_metrics(EvalPrediction(logits, np.asarray(found.features["labels"])))


def test_glue_is_a_task() -> None:
    task: Task = Glue()
    assert task.name == "glue"
    assert task.train_tokenizer(Glue.Arguments(task_name="rte"), None) is None


SCORES = {
    "cola": {"matthews_correlation"},
    "mrpc": {"f1", "accuracy", "combined_score"},
    "qqp": {"f1", "accuracy", "combined_score"},
    "stsb": {"pearson", "spearmanr", "combined_score"},
    "mnli": {"accuracy", "accuracy_mm"},
}


@pytest.mark.parametrize("name", GLUE_TASKS)
def test_every_task_goes_from_its_files_to_perfect_scores(tmp_path: Path, glue: str, name: str) -> None:
    data = prepare(tmp_path, EVERYTHING, task_name=name, glue_dir=glue)
    assert data.train is not None
    assert data.evaluation is not None
    assert data.predict is not None
    assert data.task == name
    classes = data.model_config["num_labels"]
    scores = score(data.evaluation, perfect(data.evaluation, classes))
    assert scores.keys() == SCORES.get(name, {"accuracy"})
    assert data.main_metric in scores
    assert list(scores.values()) == pytest.approx([1.0] * len(scores))
    assert "labels" not in data.predict.features.column_names
    assert set(data.train.column_names) == {"input_ids", "token_type_ids", "attention_mask", "labels", "length"}


def test_a_model_will_name_its_labels_in_the_order_of_the_hub(tmp_path: Path, glue: str) -> None:
    found = {
        name: list(prepare(tmp_path, {}, task_name=name, glue_dir=glue).model_config.get("label2id", {}))
        for name in GLUE_TASKS
    }
    assert found == {
        "cola": ["unacceptable", "acceptable"],
        "sst2": ["negative", "positive"],
        "mrpc": ["not_equivalent", "equivalent"],
        "stsb": [],
        "qqp": ["not_duplicate", "duplicate"],
        "mnli": ["entailment", "neutral", "contradiction"],
        "qnli": ["entailment", "not_entailment"],
        "rte": ["entailment", "not_entailment"],
        "wnli": ["not_entailment", "entailment"],
    }


def test_the_report_says_where_rows_came_from_and_how_many_there_are(tmp_path: Path, glue: str) -> None:
    data = prepare(tmp_path, EVERYTHING, task_name="mnli", glue_dir=glue, max_train_samples=3, max_predict_samples=2)
    folder, diagnostic = f"{glue}/MNLI", f"{glue}/diagnostic/diagnostic.tsv"
    assert data.report == {
        "train": {"source": f"{folder}/train.tsv", "examples": 3, "features": 3},
        "evaluation": {
            "source": f"{folder}/dev_matched.tsv and {folder}/dev_mismatched.tsv",
            "examples": 5,
            "features": 5,
        },
        "predict": {
            "source": f"{folder}/test_matched.tsv and {folder}/test_mismatched.tsv and {diagnostic}",
            "examples": 6,
            "features": 6,
        },
    }
    assert prepare(tmp_path, {"do_train": True}, task_name="qqp", glue_dir=glue).report["train"]["skipped_rows"] == 2


def test_evaluation_is_sorted_by_length_and_scored_and_written_in_the_order_of_the_file(
    tmp_path: Path, glue: str
) -> None:
    found = prepare(tmp_path, {"do_eval": True}, task_name="stsb", glue_dir=glue).evaluation
    assert found is not None
    lengths = found.features["length"][:]
    assert lengths == sorted(lengths, reverse=True)
    assert len(set(lengths)) == 3
    logits = np.array([[0.1234], [7.0], [-2.0]], np.float32)  # of the second, the third and the first row
    order = found.features["labels"][:]
    found.write_predictions(logits, tmp_path, "eval")
    by_label = dict(zip(order, ["0.123", "5.000", "0.000"], strict=True))
    expected = "".join(f"{row}\t{by_label[label]}\n" for row, label in enumerate([5.0, 0.0, 2.5]))
    assert (tmp_path / "eval_STS-B.tsv").read_text() == "index\tprediction\n" + expected


def test_mnli_is_scored_on_each_of_its_sets(tmp_path: Path, glue: str) -> None:
    found = prepare(tmp_path, {"do_eval": True}, task_name="mnli", glue_dir=glue).evaluation
    assert found is not None
    always_entailment = np.tile(np.array([3.0, 0, 0], np.float32), (5, 1))
    assert score(found, always_entailment) == {"accuracy": pytest.approx(1 / 3), "accuracy_mm": 0.5}


def test_other_orders_and_other_numbers_of_predictions_are_refused(tmp_path: Path, glue: str) -> None:
    found = prepare(tmp_path, {"do_eval": True}, task_name="mnli", glue_dir=glue).evaluation
    assert found is not None
    labels = np.asarray(found.features["labels"])
    with pytest.raises(ValueError, match=r"came in another order than the features.*use CrAMTrainer"):
        found.compute_metrics(EvalPrediction(np.zeros((5, 3)), np.roll(labels, 1)))
    with pytest.raises(ValueError, match="there are 4 predictions for 5 rows"):
        found.write_predictions(np.zeros((4, 3)), tmp_path, "eval")


def test_logits_may_come_with_hidden_states(tmp_path: Path, glue: str) -> None:
    found = prepare(tmp_path, {"do_eval": True}, task_name="rte", glue_dir=glue).evaluation
    assert found is not None
    assert score(found, (perfect(found, 2), np.zeros((4, 7, 16)))) == {"accuracy": 1.0}


SUBMISSIONS = {
    "cola": {"CoLA.tsv": ["1", "1"]},
    "mnli": {name: ["neutral"] * 3 for name in ("MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv")},
    "mrpc": {"MRPC.tsv": ["1"]},
    "qnli": {"QNLI.tsv": ["not_entailment"]},
    "qqp": {"QQP.tsv": ["1"]},
    "rte": {"RTE.tsv": ["not_entailment"] * 3},
    "sst2": {"SST-2.tsv": ["1"]},
    "stsb": {"STS-B.tsv": ["0.000"]},
    "wnli": {"WNLI.tsv": ["1"] * 3},
}


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_submissions_are_in_the_form_of_glue(tmp_path: Path, glue: str, name: str) -> None:
    data = prepare(tmp_path, {"do_predict": True}, task_name=name, glue_dir=glue)
    assert data.predict is not None
    logits = np.eye(data.model_config["num_labels"], dtype=np.float32)[[1 if name != "stsb" else 0]]
    logits = -logits if name == "stsb" else logits
    data.predict.write_predictions(np.repeat(logits, data.predict.examples, axis=0), tmp_path / "out", "predict")
    written = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert written == {
        file: "index\tprediction\n" + "".join(f"{row}\t{label}\n" for row, label in enumerate(labels))
        for file, labels in SUBMISSIONS[name].items()
    }


def test_predictions_for_own_data_are_named_by_the_prefix(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "own.csv", [{"text": "a", "label": "on\tthe mill"}, {"text": "bb b", "label": "off"}])
    data = prepare(tmp_path, {"do_predict": True}, train_file=str(path), test_file=str(path))
    assert data.predict is not None
    data.predict.write_predictions(np.array([[1.0, 0.0], [0.0, 1.0]]), tmp_path, "predict")
    assert (tmp_path / "predict_predictions.tsv").read_text() == "index\tprediction\n0\ton the mill\n1\toff\n"


def test_scores_of_own_data_keep_their_digits() -> None:
    text = predictions_file(np.array([1234.5678, -0.000123456789]), Target("regression", "spearmanr"))
    assert text == "index\tprediction\n0\t1234.57\n1\t-0.000123457\n"


def test_own_data_are_prepared_as_classes_or_scores(tmp_path: Path) -> None:
    rows = [{"text": word, "label": label} for word, label in [("a", 0.5), ("b", 1.5), ("c", 4.0)]]
    path = str(write_csv(tmp_path / "scores.csv", rows))
    data = prepare(tmp_path, {"do_train": True, "do_eval": True}, train_file=path, validation_file=path)
    assert data.evaluation is not None
    scores = score(data.evaluation, perfect(data.evaluation, 1))
    assert (data.task, data.main_metric) == ("regression", "spearmanr")
    assert scores == {"pearson": pytest.approx(1.0), "spearmanr": pytest.approx(1.0), "mse": 0.0}


def test_the_interim_set_is_a_fixed_sample_of_each_file_or_the_whole(tmp_path: Path, glue: str) -> None:
    flags = {"task_name": "mnli", "glue_dir": glue}
    data = prepare(tmp_path, {"do_eval": True}, **flags, interim_eval_samples=1)
    assert data.interim is not None
    assert data.interim.examples == data.report["interim"]["examples"] == 2
    assert score(data.interim, perfect(data.interim, 3)) == {"accuracy": 1.0, "accuracy_mm": 1.0}
    whole = prepare(tmp_path, {"do_eval": True}, **flags, interim_eval_samples=3)
    assert whole.interim is whole.evaluation


def test_the_fixed_sample_does_not_depend_on_the_texts() -> None:
    chosen = []
    for text in ("goose", "miller"):
        examples = Dataset.from_dict({"sentence1": [f"{text} {row}" for row in range(30)]})
        found = fixed_sample(Part("RTE", "dev.tsv", examples), 4).examples["sentence1"][:]
        chosen.append([int(sentence.split()[1]) for sentence in found])
    assert chosen[0] == chosen[1] == sorted(chosen[0])
    assert len(chosen[0]) == 4
    assert chosen[0] != [0, 1, 2, 3]


def test_rows_are_cut_to_the_length_and_padded_only_if_asked(tmp_path: Path, glue: str) -> None:
    flags = {"task_name": "rte", "glue_dir": glue, "max_seq_length": 10}
    data = prepare(tmp_path, {"do_train": True}, **flags)
    assert data.train is not None
    assert max(map(len, data.train["input_ids"])) == 10
    assert isinstance(data.collator, DataCollatorWithPadding)
    padded = prepare(tmp_path, {"do_train": True}, **{**flags, "max_seq_length": 40}, pad_to_max_length=True)
    assert padded.train is not None
    assert set(map(len, padded.train["input_ids"])) == {40}
    assert max(padded.train["length"]) < 40
    assert padded.collator is default_data_collator


def test_the_length_is_lowered_to_the_model_s(tmp_path: Path, glue: str, caplog: pytest.LogCaptureFixture) -> None:
    data = prepare(tmp_path, {"do_train": True}, tiny_tokenizer(model_max_length=8), task_name="rte", glue_dir=glue)
    assert data.train is not None
    assert max(data.train["length"]) == 8
    assert "--max_seq_length 128 is more than the model's 8: using 8" in caplog.text


def test_a_length_without_room_for_texts_is_refused(tmp_path: Path, glue: str) -> None:
    with pytest.raises(ValueError, match="--max_seq_length 4: must be at least 5, a token of each text and"):
        prepare(tmp_path, {"do_train": True}, task_name="rte", glue_dir=glue, max_seq_length=4)


def test_without_scikit_learn_a_run_stops_at_its_start(
    tmp_path: Path, glue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise ImportError("pip install")

    monkeypatch.setattr("cram_hf.tasks.glue.check_installed", missing)
    with pytest.raises(ImportError, match="pip install"):
        prepare(tmp_path, {"do_eval": True}, task_name="rte", glue_dir=glue)
    assert prepare(tmp_path, {"do_train": True}, task_name="rte", glue_dir=glue).train is not None


def test_an_official_row_keeps_its_lone_quote_to_the_tokens(tmp_path: Path, glue: str) -> None:
    assert '"' in FILES["SST-2/dev.tsv"]
    tokenizer = tiny_tokenizer()
    found = prepare(tmp_path, {"do_eval": True}, tokenizer, task_name="sst2", glue_dir=glue).evaluation
    assert found is not None
    assert re.search(r"a \[UNK\] d", tokenizer.decode(found.features["input_ids"][0]))


def test_gold_labels_of_the_real_dev_sets_score_one(tmp_path: Path) -> None:
    for name in ("rte", "stsb"):
        if not (SHARED / "glue" / GLUE_TASKS[name].folder).is_dir():
            pytest.skip(f"needs {SHARED / 'glue' / GLUE_TASKS[name].folder}")
        flags = {"task_name": name, "glue_dir": str(SHARED / "glue"), "max_eval_samples": 150}
        data = prepare(tmp_path, {"do_eval": True}, **flags)
        assert data.evaluation is not None
        scores = score(data.evaluation, perfect(data.evaluation, data.model_config["num_labels"]))
        assert list(scores.values()) == pytest.approx([1.0] * len(scores))
