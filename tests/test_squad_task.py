"""The task from files to scores: what each flag asks for, through the real Trainer, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from squad_fixtures import RECORDS, SHARED, UNANSWERABLE, record, tiny_tokenizer, write_json
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    DataCollatorWithPadding,
    EvalPrediction,
    HfArgumentParser,
    Trainer,
)
from transformers import TrainingArguments as Arguments

from cram_hf.tasks.base import EvalSet, Task, TaskData
from cram_hf.tasks.squad import Squad, fixed_sample
from cram_hf.tasks.squad_files import read_squad

SMALL = {"max_seq_length": 48, "doc_stride": 8}


def training_args(folder: Path, **options: Any) -> Arguments:
    return Arguments(output_dir=str(folder / "out"), report_to=[], use_cpu=True, disable_tqdm=True, **options)


def prepare(folder: Path, runs: dict[str, bool], tokenizer: Any = None, **flags: Any) -> TaskData:
    task_args = Squad.Arguments(**{**SMALL, **flags})
    return Squad().prepare(task_args, tokenizer or tiny_tokenizer(), training_args(folder, **runs))


def tiny_model(vocabulary: int) -> BertForQuestionAnswering:
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    return BertForQuestionAnswering(config)


@pytest.fixture
def train_file(tmp_path: Path) -> str:
    return str(write_json(tmp_path / "train.json", RECORDS))


@pytest.fixture
def dev_file(tmp_path: Path) -> str:
    more = [record(f"d{number}", f"Who kept {number} geese?", "miller") for number in range(20)]
    return str(write_json(tmp_path / "dev.json", [*RECORDS, *more]))


def perfect_logits(features: Any) -> tuple[np.ndarray, np.ndarray]:
    width = max(map(len, features["input_ids"]))
    logits = np.zeros((2, len(features), width), np.float32)
    for side, column in enumerate(("start_positions", "end_positions")):
        positions = np.array(features[column])
        # A window without the answer says so at [CLS], which no span may use.
        logits[side, np.arange(len(features)), positions] = 9.0
    return logits[0], logits[1]


def score(found: EvalSet, logits: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    labels = tuple(np.array(found.features[name]) for name in ("start_positions", "end_positions"))
    return found.compute_metrics(EvalPrediction(logits, labels))


def test_every_part_is_made_only_when_asked_for(tmp_path: Path, train_file: str, dev_file: str) -> None:
    data = prepare(tmp_path, {"do_train": True}, train_file=train_file, validation_file=dev_file)
    assert data.train is not None
    assert (data.interim, data.evaluation, data.predict) == (None, None, None)
    assert data.report == {
        "train": {"source": train_file, "examples": 3, "misaligned_answers": 0, "features": len(data.train)}
    }
    data = prepare(tmp_path, {"do_eval": True}, validation_file=dev_file)
    assert data.train is None
    assert data.evaluation is not None
    assert data.interim is data.evaluation
    assert data.evaluation.examples == 23


def test_sample_flags_select_questions_first(tmp_path: Path, train_file: str, dev_file: str) -> None:
    data = prepare(
        tmp_path,
        {"do_train": True, "do_eval": True, "do_predict": True},
        train_file=train_file,
        validation_file=dev_file,
        test_file=dev_file,
        max_train_samples=2,
        max_eval_samples=5,
        max_predict_samples=1,
    )
    assert data.report["train"]["examples"] == 2
    assert (data.report["evaluation"]["examples"], data.report["predict"]["examples"]) == (5, 1)


def test_the_interim_sample_is_the_same_whatever_the_order(tmp_path: Path, dev_file: str) -> None:
    examples = read_squad(dev_file)
    backwards = examples.select(range(len(examples))[::-1])
    chosen = fixed_sample(examples, 7)["id"][:]
    assert len(chosen) == 7
    assert fixed_sample(backwards, 7)["id"][:] == chosen[::-1]
    data = prepare(tmp_path, {"do_eval": True}, validation_file=dev_file, interim_eval_samples=7)
    assert data.interim is not None
    assert data.interim.examples == data.report["interim"]["examples"] == 7
    assert score(data.interim, perfect_logits(data.interim.features))["f1"] == 100.0


def test_perfect_logits_score_100_though_features_are_sorted_by_length(tmp_path: Path, dev_file: str) -> None:
    found = prepare(tmp_path, {"do_eval": True}, validation_file=dev_file).evaluation
    assert found is not None
    lengths = found.features["length"][:]
    assert lengths == sorted(lengths, reverse=True)
    assert len(set(lengths)) > 2
    assert score(found, perfect_logits(found.features)) == {"exact_match": 100.0, "f1": 100.0}


def test_v2_scores_use_the_null_odds_as_the_official_script_does(tmp_path: Path) -> None:
    path = str(write_json(tmp_path / "v2.json", [*RECORDS, UNANSWERABLE]))
    flags = {"validation_file": path, "version_2_with_negative": True, "max_seq_length": 128, "doc_stride": 16}
    found = prepare(tmp_path, {"do_eval": True}, **flags).evaluation
    assert found is not None
    scores = score(found, perfect_logits(found.features))
    assert (scores["exact"], scores["HasAns_total"], scores["NoAns_exact"]) == (100.0, 3, 100.0)
    silent = prepare(tmp_path, {"do_eval": True}, **flags, null_score_diff_threshold=-100.0).evaluation
    assert silent is not None
    scores = score(silent, perfect_logits(silent.features))
    assert (scores["HasAns_exact"], scores["NoAns_exact"], scores["best_exact"]) == (0.0, 100.0, 100.0)


def test_prediction_files_have_the_names_and_content_of_the_hf_script(tmp_path: Path) -> None:
    path = str(write_json(tmp_path / "v2.json", [*RECORDS, UNANSWERABLE]))
    found = prepare(tmp_path, {"do_eval": True}, validation_file=path, version_2_with_negative=True).evaluation
    assert found is not None
    found.write_predictions(perfect_logits(found.features), tmp_path / "new" / "folder", "eval")
    written = {file.name: json.loads(file.read_text()) for file in (tmp_path / "new" / "folder").iterdir()}
    assert set(written) == {"eval_predictions.json", "eval_nbest_predictions.json", "eval_null_odds.json"}
    assert all(set(content) == {"q1", "q2", "q3", "q4"} for content in written.values())
    assert set(written["eval_nbest_predictions.json"]["q1"][0]) == {"text", "start_logit", "end_logit", "probability"}


@pytest.mark.parametrize(("side", "pad"), [("right", False), ("right", True), ("left", False)])
def test_a_model_scores_the_same_in_any_padding_and_batch_size(
    tmp_path: Path, dev_file: str, side: str, pad: bool
) -> None:
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(side)
    model = tiny_model(len(tokenizer))
    torch.nn.init.normal_(model.qa_outputs.weight, std=3.0)  # decided answers: rounding cannot reorder them
    texts = []
    for batch in (2, 8):
        data = prepare(tmp_path, {"do_eval": True}, tokenizer, validation_file=dev_file, pad_to_max_length=pad)
        assert data.evaluation is not None
        trainer = Trainer(
            model,
            training_args(tmp_path, per_device_eval_batch_size=batch),
            data_collator=data.collator,
            eval_dataset=data.evaluation.features,
            compute_metrics=data.evaluation.compute_metrics,
        )
        metrics = trainer.evaluate()
        assert 0.0 < metrics["eval_f1"] < 100.0
        outcome = trainer.predict(data.evaluation.features)
        data.evaluation.write_predictions(outcome.predictions, tmp_path, "eval")
        texts.append(json.loads((tmp_path / "eval_predictions.json").read_text()))
    assert texts[0] == texts[1]


def test_shuffled_predictions_are_noticed(tmp_path: Path, dev_file: str) -> None:
    found = prepare(tmp_path, {"do_eval": True}, validation_file=dev_file).evaluation
    assert found is not None
    order = np.random.default_rng(0).permutation(len(found.features))
    start, end = perfect_logits(found.features)
    labels = tuple(np.array(found.features[name])[order] for name in ("start_positions", "end_positions"))
    with pytest.raises(ValueError, match="the predictions came in another order than the features"):
        found.compute_metrics(EvalPrediction((start[order], end[order]), labels))
    with pytest.raises(ValueError, match=r"there are 1 predictions for \d+ features of 23 questions"):
        found.compute_metrics(EvalPrediction((start[:1], end[:1]), (labels[0][:1], labels[1][:1])))


def test_training_by_length_runs_and_the_length_does_not_reach_the_model(tmp_path: Path, train_file: str) -> None:
    data = prepare(tmp_path, {"do_train": True}, train_file=train_file)
    trainer = Trainer(
        tiny_model(len(tiny_tokenizer())),
        training_args(tmp_path, train_sampling_strategy="group_by_length", max_steps=2, save_strategy="no"),
        data_collator=data.collator,
        train_dataset=data.train,
    )
    assert "length" in data.train.column_names
    assert set(next(iter(trainer.get_train_dataloader()))) == {
        *("input_ids", "token_type_ids", "attention_mask", "start_positions", "end_positions")
    }
    assert trainer.train().global_step == 2


def test_a_test_file_without_answers_gives_features_without_labels(tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if key != "answers"} for row in RECORDS]
    path = str(write_json(tmp_path / "test.json", rows))
    found = prepare(tmp_path, {"do_predict": True}, test_file=path).predict
    assert found is not None
    assert not {"start_positions", "end_positions"} & set(found.features.column_names)
    assert found.examples == 3
    trainer = Trainer(
        tiny_model(len(tiny_tokenizer())),
        training_args(tmp_path),
        data_collator=DataCollatorWithPadding(tiny_tokenizer()),
        compute_metrics=found.compute_metrics,  # not called: there is nothing to compare with
    )
    found.write_predictions(trainer.predict(found.features).predictions, tmp_path, "predict")
    assert set(json.loads((tmp_path / "predict_predictions.json").read_text())) == {"q1", "q2", "q3"}


def test_misaligned_training_answers_are_reported(tmp_path: Path) -> None:
    moved = {**RECORDS[0], "answers": {"text": ["nine"], "answer_start": [0]}}
    lost = {**RECORDS[1], "answers": {"text": ["camel"], "answer_start": [0]}}
    path = str(write_json(tmp_path / "off.json", [moved, lost, RECORDS[2]]))
    data = prepare(tmp_path, {"do_train": True, "do_eval": True}, train_file=path, validation_file=path)
    assert data.report["train"] | {"features": 0} == {
        "source": path,
        "examples": 2,
        "misaligned_answers": 2,
        "realigned_answers": 1,
        "dropped_answers": 1,
        "dropped_questions": 1,
        "features": 0,
    }
    assert data.report["evaluation"]["misaligned_answers"] == 2
    assert data.report["evaluation"]["examples"] == 3


def test_several_processes_make_the_same_features(tmp_path: Path, dev_file: str) -> None:
    one, two = (
        prepare(tmp_path, {"do_eval": True}, validation_file=dev_file, preprocessing_num_workers=workers).evaluation
        for workers in (None, 2)
    )
    assert one is not None
    assert two is not None
    assert one.features.to_list() == two.features.to_list()
    assert score(two, perfect_logits(two.features))["f1"] == 100.0


def test_mistakes_in_the_flags_are_named_together() -> None:
    with pytest.raises(ValueError, match="--n_best_size 0: must be at least 1") as error:
        Squad.Arguments(n_best_size=0, doc_stride=500, train_file="x.txt", dataset_config_name="v1")
    message = str(error.value)
    assert "--doc_stride 500: must be at least 0 and less than --max_seq_length 384" in message
    assert "--train_file x.txt: unknown extension; must be one of .json, .jsonl, .csv, .parquet" in message
    assert "--dataset_config_name v1 needs --dataset_name" in message
    with pytest.raises(ValueError, match=r"--dataset_name x and --test_file t\.json are both given"):
        Squad.Arguments(dataset_name="x", test_file="t.json")


def test_missing_data_say_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--do_train needs questions; give --train_file file.json or --dataset_name"):
        prepare(tmp_path, {"do_train": True})
    with pytest.raises(ValueError, match="--do_predict needs questions; give --test_file"):
        prepare(tmp_path, {"do_predict": True})


def test_unanswerable_questions_need_the_flag(tmp_path: Path) -> None:
    path = str(write_json(tmp_path / "v2.json", [*RECORDS, UNANSWERABLE]))
    for part, flag in (("do_train", "train_file"), ("do_eval", "validation_file")):
        with pytest.raises(ValueError, match=r"1 of 4 questions have no answer, such as 'q4'; add --version_2_with"):
            prepare(tmp_path, {part: True}, **{flag: path})


def test_a_training_set_that_loses_all_questions_is_refused(tmp_path: Path) -> None:
    path = write_json(tmp_path / "off.json", [{**RECORDS[0], "answers": {"text": ["camel"], "answer_start": [0]}}])
    with pytest.raises(ValueError, match="no question with an aligned answer is left to train on"):
        prepare(tmp_path, {"do_train": True}, train_file=str(path))


def test_a_slow_tokenizer_is_refused(tmp_path: Path) -> None:
    class SlowTokenizer:
        is_fast = False

    with pytest.raises(ValueError, match=r"SlowTokenizer is not a fast tokenizer.*has a tokenizer\.json"):
        prepare(tmp_path, {}, SlowTokenizer())


def test_a_length_beyond_the_model_is_lowered_with_a_warning(
    tmp_path: Path, train_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    small = tiny_tokenizer(model_max_length=40)
    data = prepare(tmp_path, {"do_train": True}, small, train_file=train_file)
    assert data.train is not None
    assert max(data.train["length"]) == 40
    assert "--max_seq_length 48 is more than the model's 40: using 40" in caplog.text
    with pytest.raises(ValueError, match="--doc_stride 44: must be less than the model's 40 tokens"):
        prepare(tmp_path, {"do_train": True}, small, train_file=train_file, doc_stride=44)


def test_the_task_fits_the_protocol_and_its_flags_parse_and_print(capsys: pytest.CaptureFixture[str]) -> None:
    task: Task = Squad()
    parser = HfArgumentParser(task.Arguments)
    assert parser.parse_args_into_dataclasses(["--interim_eval_samples", "9"])[0].interim_eval_samples == 9
    assert parser.parse_args_into_dataclasses([])[0] == Squad.Arguments()
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    assert "--null_score_diff_threshold" in capsys.readouterr().out


def test_the_real_dev_set_scores_100_from_its_own_labels(tmp_path: Path) -> None:
    path = SHARED / "squad" / "dev-v1.1.json"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    flags = {"validation_file": str(path), "max_eval_samples": 150, "max_seq_length": 500, "max_answer_length": 300}
    found = prepare(tmp_path, {"do_eval": True}, **flags).evaluation
    assert found is not None
    assert score(found, perfect_logits(found.features))["f1"] > 95.0
