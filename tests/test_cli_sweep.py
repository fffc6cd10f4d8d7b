"""`cram-hf sweep`: the scores are those of the scripts, what was measured is kept, what differs is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from results_fixtures import make_results
from scoring_fixtures import classifier_folder, mlm_flags, mlm_folder, qa_folder, rte_flags, squad_flags
from squad_fixtures import RECORDS, nested, write_json

from cram_hf import runner, scoring
from cram_hf.cli import _parser, flags, main
from cram_hf.cli.evaluating import as_trained, task_of
from cram_hf.results import Results
from cram_hf.tasks.squad import Squad

RTE = ("entailment", "not_entailment")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return qa_folder(tmp_path_factory.mktemp("models") / "multi")


@pytest.fixture
def squad(tmp_path):
    return squad_flags(tmp_path)


@pytest.fixture
def measured(monkeypatch):
    """The specs that are really measured."""
    real, specs = scoring.score, []

    def counted(trainer, sets, compressor, weights=None, spec=None):
        specs.append(spec)
        return real(trainer, sets, compressor, weights, spec)

    monkeypatch.setattr(scoring, "score", counted)
    return specs


def sweep(*words: str) -> int:
    return main(["sweep", *words])


def refused(capsys, *words: str) -> str:
    assert sweep(*words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "Traceback" not in told.err
    return told.err[told.err.index("error: ") :]


class TestOneModel:
    def test_rows_are_those_of_the_training_script(self, model, squad, tmp_path, capsys):
        assert sweep(model, *squad, "--to", "topk:0.5", "nm:2:4", "--out", str(tmp_path / "sweep")) == 0
        words = ["--model_name_or_path", model, *squad[2:], "--do_eval", "--output_dir", str(tmp_path / "run")]
        assert runner.main(Squad(), [*words, "--eval_compressors", "topk:0.5", "nm:2:4"]) == 0
        ours, theirs = (Results.load(tmp_path / path) for path in ("sweep/multi/results.json", "run/results.json"))
        assert [row.spec for row in ours.rows] == ["dense", "topk:0.5", "nm:2:4"]
        for row, other in zip(ours.rows, theirs.rows, strict=True):
            assert row.metrics == pytest.approx(other.metrics)
            assert (row.sparsity, row.model_sparsity, row.examples) == (
                other.sparsity,
                other.model_sparsity,
                other.examples,
            )
        assert (ours.task, ours.label, ours.main_metric, ours.training) == ("squad", "multi", "f1", None)
        assert ours.config["max_seq_length"] == 64

    def test_lengths_that_were_not_typed_are_those_of_the_run(self, model, squad, tmp_path, caplog, capsys):
        run = tmp_path / "run"
        words = ["--model_name_or_path", model, *squad[2:], "--do_train", "--max_steps", "1", "--do_eval"]
        train = ["--train_file", squad[3], "--output_dir", str(run), "--report_to", "none"]
        assert runner.main(Squad(), [*words, *train]) == 0
        assert sweep(str(run), *squad[:4], "--to", "topk:0.5", "--out", str(tmp_path / "a")) == 0
        assert "--max_seq_length 64 --doc_stride 16. Type others to change them." in caplog.text
        asked = Results.load(tmp_path / "a" / "run" / "results.json")
        assert asked.row("dense").metrics == pytest.approx(Results.load(run / "results.json").row("dense").metrics)
        typed = ["--max_seq_length", "72"]
        assert sweep(str(run), *squad[:4], *typed, "--to", "topk:0.5", "--out", str(tmp_path / "b")) == 0
        config = Results.load(tmp_path / "b" / "run" / "results.json").config
        assert (config["max_seq_length"], config["doc_stride"]) == (72, 16)
        told = refused_after_rows(
            capsys, str(run), *squad[:4], "--max_seq_length", "12", "--to", "topk:0.5", "--out", "c"
        )
        assert "--doc_stride 16: must be at least 0 and less than --max_seq_length 12" in told

    @pytest.mark.parametrize(("typed", "padded"), [([], True), (["--pad_to_max_length=false"], False)])
    def test_a_switch_of_the_run_can_be_typed_otherwise(self, typed, padded, tmp_path):
        make_results(config={"pad_to_max_length": True}).save(tmp_path / "results.json")
        words = [str(tmp_path), "--task", "squad", "--validation_file", "a.json", "--to", "topk:0.5", "--out", "b"]
        task, found = task_of(_parser(flags.sweep).parse([*words, *typed]))
        assert as_trained(str(tmp_path), task, found).pad_to_max_length is padded

    def test_table_picture_and_json(self, model, squad, tmp_path, capsys):
        out = tmp_path / "sweep"
        assert sweep(model, *squad, "--to", "topk:0.5", "--out", str(out), "--label", "CrAM+ k50", "--json") == 0
        result = json.loads(capsys.readouterr().out)
        assert result["results"] == [str(out / "CrAM+-k50" / "results.json")]
        assert result["models"][0] == Results.load(result["results"][0]).document()
        assert (out / "curve.png").read_bytes()[:4] == b"\x89PNG"
        assert sweep(model, *squad, "--to", "topk:0.5", "--out", str(out), "--label", "CrAM+ k50") == 0
        printed = capsys.readouterr().out
        assert (out / "table.md").read_text() in printed.replace("\n\nWritten", "\nWritten")
        assert "| topk:0.5    |" in printed
        assert f"Written: {out}/CrAM+-k50/results.json, {out}/table.md, {out}/curve.png" in printed


class TestGoingOn:
    def test_an_interrupted_sweep_keeps_its_rows_and_goes_on(self, model, squad, tmp_path, caplog, monkeypatch):
        words = [model, *squad, "--to", "topk:0.5", "topk:0.7", "--out", str(tmp_path / "sweep")]
        real = scoring.score

        def stopped(trainer, sets, compressor, weights=None, spec=None):
            if spec == "topk:0.7":
                raise KeyboardInterrupt
            return real(trainer, sets, compressor, weights, spec)

        with monkeypatch.context() as patch:
            patch.setattr(scoring, "score", stopped)
            assert sweep(*words) == 130
        assert "What was measured is kept in" in caplog.text
        kept = Results.load(tmp_path / "sweep" / "multi" / "results.json")
        assert [row.spec for row in kept.rows] == ["dense", "topk:0.5"]
        specs = []
        monkeypatch.setattr(scoring, "score", lambda *a: (specs.append(a[-1]), real(*a))[1])
        assert sweep(*words) == 0
        assert specs == ["topk:0.7"]
        whole = Results.load(tmp_path / "sweep" / "multi" / "results.json")
        assert whole.rows[:2] == kept.rows
        assert (whole.created, whole.command) == (kept.created, kept.command)

    def test_another_list_of_specs_adds_rows(self, model, squad, tmp_path, measured):
        for spec in ("topk:0.5", "topk:0.5", "nm:2:4"):
            assert sweep(model, *squad, "--to", spec, "--out", str(tmp_path / "sweep")) == 0
        assert measured == ["dense", "topk:0.5", "nm:2:4"]

    def test_a_full_disk_leaves_the_rows_before_it(self, model, squad, tmp_path, capsys, monkeypatch):
        words = [model, *squad, "--out", str(tmp_path / "sweep"), "--to"]
        assert sweep(*words, "topk:0.5") == 0

        def full(self, data):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", full)
            assert "No space left on device" in refused_after_rows(capsys, *words, "topk:0.7")
        folder = tmp_path / "sweep" / "multi"
        assert [path.name for path in folder.iterdir()] == ["results.json"]
        assert [row.spec for row in Results.load(folder / "results.json").rows] == ["dense", "topk:0.5"]

    def test_other_weights_data_or_flags_are_refused(self, model, squad, tmp_path, capsys):
        out = ["--to", "topk:0.5", "--out", str(tmp_path / "sweep"), "--label", "multi"]
        assert sweep(model, *squad, *out) == 0
        capsys.readouterr()
        retrained = qa_folder(tmp_path / "other", seed=1)
        told = refused(capsys, retrained, *squad, *out)
        assert "multi/results.json cannot be gone on with:\n- the model has other weights" in told
        assert told.endswith("Choose another --out, or move it away.\n")
        assert "config: n_best_size was None, and is 5 now" in refused(
            capsys, model, *squad, *out, "--n_best_size", "5"
        )
        write_json(tmp_path / "squad.json", nested(RECORDS[:2]))
        told = refused(capsys, model, *squad, *out)
        assert "- the data have another content" in told
        rte = classifier_folder(tmp_path / "rte", RTE)
        assert "- task was squad, and is rte now" in refused(capsys, rte, *rte_flags(tmp_path), *out)

    def test_a_file_that_is_no_results_file_is_refused(self, model, squad, tmp_path, capsys):
        (tmp_path / "sweep" / "multi").mkdir(parents=True)
        (tmp_path / "sweep" / "multi" / "results.json").write_text("{}")
        told = refused(capsys, model, *squad, "--to", "topk:0.5", "--out", str(tmp_path / "sweep"))
        assert "a results file of cram_hf says" in told


def refused_after_rows(capsys, *words: str) -> str:
    capsys.readouterr()
    return refused(capsys, *words)


class TestSeveralModels:
    def test_one_table_and_one_picture(self, model, squad, tmp_path, capsys):
        other = qa_folder(tmp_path / "adamw", seed=1)
        assert sweep(other, model, *squad, "--to", "topk:0.5", "--out", str(tmp_path / "sweep")) == 0
        table = (tmp_path / "sweep" / "table.md").read_text().splitlines()
        assert [line.split()[1::2][:2] for line in table[2:]] == [
            ["adamw", "dense"],
            ["adamw", "topk:0.5"],
            ["multi", "dense"],
            ["multi", "topk:0.5"],
        ]
        assert (tmp_path / "sweep" / "curve.png").exists()
        assert Results.load(tmp_path / "sweep" / "adamw" / "results.json").label == "adamw"

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["MODEL"], "The models are called multi, multi: give each a name of its own"),
            (["MODEL", "--label", "a"], "--label: 1 were given for 2 models. Give one for each."),
            (["MODEL", "--label", "a b", "A-b"], "The models are called a b, A-b"),
            (["MODEL", "--label", "a", "//"], "--label '//': a name has letters or digits."),
        ],
    )
    def test_labels_that_do_not_tell_them_apart_are_refused(self, words, sentence, model, squad, tmp_path, capsys):
        words = [word.replace("MODEL", model) for word in words]
        told = refused(capsys, model, *words, *squad, "--to", "topk:0.5", "--out", str(tmp_path / "sweep"))
        assert sentence in told
        assert not (tmp_path / "sweep").exists()


class TestTasks:
    def test_a_task_of_glue_by_its_name(self, tmp_path):
        folder = classifier_folder(tmp_path / "rte", RTE)
        assert sweep(folder, *rte_flags(tmp_path), "--to", "topk:0.5", "--out", str(tmp_path / "sweep")) == 0
        results = Results.load(tmp_path / "sweep" / "rte" / "results.json")
        assert (results.task, results.main_metric, results.rows[0].examples) == ("rte", "accuracy", 4)

    def test_masked_language_modelling(self, tmp_path, capsys):
        folder = mlm_folder(tmp_path / "bert")
        assert sweep(folder, *mlm_flags(tmp_path), "--to", "topk:0.5", "--out", str(tmp_path / "sweep")) == 0
        results = Results.load(tmp_path / "sweep" / "bert" / "results.json")
        assert (results.task, results.main_metric) == ("mlm", "perplexity")
        assert " x |" in capsys.readouterr().out

    def test_classes_in_another_order_are_refused(self, tmp_path, capsys):
        folder = classifier_folder(tmp_path / "rte", RTE[::-1])
        told = refused(capsys, folder, *rte_flags(tmp_path), "--to", "topk:0.5", "--out", str(tmp_path / "sweep"))
        assert "tells not_entailment, entailment apart, in this order; the data have entailment, not_entail" in told

    def test_another_number_of_classes_is_refused(self, tmp_path, capsys):
        folder = classifier_folder(tmp_path / "rte", ("a", "b", "c"))
        told = refused(capsys, folder, *rte_flags(tmp_path), "--to", "topk:0.5", "--out", str(tmp_path / "sweep"))
        assert "Its scores would be wrong" in told


class TestMistakes:
    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["--to", "tokp:0.5"], "'tokp:0.5' is no compressor. Did you mean 'topk'?"),
            (["--to", "topk:0.5", "topk:0.50"], "a compression is named twice"),
            (["--to", "nm:2:7"], "multiple of 7"),
            (["--to", "layers:none.json"], "layers: none.json cannot be read"),
            (["--to", "topk:0.5", "--compress_include", "querry"], "'querry' matches no weight"),
            (["--to", "topk:0.5", "--per_device_eval_batch_size", "0"], "a whole number from 1 on"),
            (["--to", "topk:0.5", "--max_seq_length", "many"], "--max_seq_length many: "),
            (["--to", "topk:0.5", "--line_by_line"], "--line_by_line: no flag of the task squad."),
            (["--to", "topk:0.5", "--doc_stirde", "3"], "unknown flag --doc_stirde (did you mean --doc_stride?)"),
            (["--to", "topk:0.5", "--task", "sqaud"], "--task sqaud: there are squad, mlm, glue, and GLUE's cola"),
            (["--to", "topk:0.5", "--validation_file", "no.json"], "no.json"),
        ],
    )
    def test_one_message_and_nothing_is_written(self, words, sentence, model, squad, tmp_path, capsys):
        assert sentence in refused(capsys, model, *squad, *words, "--out", str(tmp_path / "sweep"))
        assert not list(tmp_path.glob("sweep/**/*.json"))

    def test_a_model_without_the_head_of_the_task(self, squad, tmp_path, capsys):
        folder = mlm_folder(tmp_path / "bert")
        told = refused(capsys, folder, *squad, "--to", "topk:0.5", "--out", str(tmp_path / "sweep"))
        assert "is a BertForMaskedLM, but the task squad needs a BertForQuestionAnswering. Give a model" in told

    def test_a_model_without_a_tokenizer(self, qa_model, squad, tmp_path, capsys):
        qa_model.save_pretrained(tmp_path / "bare")
        words = [str(tmp_path / "bare"), *squad, "--to", "topk:0.5", "--out", str(tmp_path / "sweep")]
        assert "has no tokenizer, so no data can be read for it" in refused(capsys, *words)
