"""Several seeds as one: means, standard deviations, and a whole run of the script with --seeds."""

from __future__ import annotations

import pytest
from results_fixtures import make_results, row
from test_runner import run, workshop  # noqa: F401  # the workshop is a fixture

from cram_hf.plotting import figure
from cram_hf.results import Results
from cram_hf.seeds import summary
from cram_hf.table import table


def of_seed(seed: int, dense: float | None, pruned: float) -> Results:
    rows = (row("dense", dense, 0, metrics={"f1": dense}), row("topk:0.5", pruned, 0.5, metrics={"f1": pruned}))
    return make_results(seed=seed, rows=rows, config={"seed": seed, "output_dir": f"runs/seed-{seed}", "rho": 0.1})


class TestSummary:
    runs = (of_seed(1, 80, 70), of_seed(2, 82, 72), of_seed(3, 84, 77))
    together = summary(runs, "python run_squad.py --seeds 1 2 3")

    def test_holds_means_and_sample_deviations(self):
        assert self.together.score("dense") == 82
        assert self.together.score("topk:0.5") == 73
        assert self.together.rows[0].std == {"f1": 2}
        assert self.together.rows[1].std == pytest.approx({"f1": 13**0.5})

    def test_names_its_seeds_and_its_command_and_nothing_of_a_single_run(self):
        assert self.together.seeds == (1, 2, 3)
        assert self.together.command == "python run_squad.py --seeds 1 2 3"
        assert self.together.config == {"rho": 0.1}

    def test_goes_through_a_file(self, tmp_path):
        self.together.save(tmp_path / "results.json")
        assert Results.load(tmp_path / "results.json") == self.together

    def test_shows_deviations_in_the_table_and_bars_in_the_picture(self):
        assert "| 73.00 ± 3.61 |" in table(self.together)
        assert len(figure([self.together]).axes[0].collections) == 2
        assert not figure([of_seed(1, 80, 70)]).axes[0].collections

    def test_has_no_mean_where_a_run_has_no_score(self):
        partly = summary([of_seed(1, None, 70), of_seed(2, 82, 72)], "x")
        assert partly.score("dense") is None
        assert partly.score("topk:0.5") == 71

    def test_wants_two_runs_of_the_same_compressions(self):
        with pytest.raises(ValueError, match=r"1 run.s. to summarise"):
            summary([of_seed(1, 80, 70)], "x")
        other = make_results(rows=(row("dense", 1, 0), row("topk:0.9", 1, 0.9)))
        with pytest.raises(ValueError, match="different compressions"):
            summary([of_seed(1, 80, 70), other], "x")


def test_seeds_train_each_in_its_folder_and_finished_ones_are_taken_as_they_are(workshop, tmp_path, capsys):  # noqa: F811
    folder = tmp_path / "runs"
    flags = ["--seeds", "1", "2", "--learning_rate", "1e-2"]
    assert run(workshop, folder, *flags) == 0
    runs = [Results.load(folder / f"seed-{seed}" / "results.json") for seed in (1, 2)]
    together = Results.load(folder / "results.json")
    assert [one.seed for one in runs] == [1, 2]
    assert together.score("dense", "loss") == pytest.approx(sum(one.score("dense", "loss") for one in runs) / 2)
    assert runs[0].score("dense", "loss") != runs[1].score("dense", "loss")
    assert "±" in capsys.readouterr().out
    assert not (folder / "README.md").exists()

    times = {path: path.stat().st_mtime_ns for path in folder.glob("seed-*/results.json")}
    (folder / "results.json").unlink()
    assert run(workshop, folder, *flags) == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert Results.load(folder / "results.json").rows == together.rows

    (folder / "results.json").unlink()
    assert run(workshop, folder, "--seeds", "1", "2") == 2
    assert "is of another command" in capsys.readouterr().err


def test_one_seed_or_the_same_twice_is_refused(workshop, tmp_path, capsys):  # noqa: F811
    assert run(workshop, tmp_path / "a", "--seeds", "1", "1") == 2
    assert "--seeds 1 1: give two or more different numbers" in capsys.readouterr().err


def test_a_checkpoint_of_one_run_is_not_where_several_go_on(workshop, tmp_path, capsys):  # noqa: F811
    assert run(workshop, tmp_path / "a", "--seeds", "1", "2", "--resume_from_checkpoint", "runs/x/checkpoint-2") == 2
    assert "--resume_from_checkpoint names one run, --seeds make several" in capsys.readouterr().err
