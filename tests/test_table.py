"""The final table, literally."""

from __future__ import annotations

import pytest
from results_fixtures import make_results, row

from cram_hf.table import shown_metrics, table


def test_the_table_of_a_run():
    assert (
        table(make_results())
        == """\
| compression    | sparsity (compressible) | sparsity (whole model) |    f1 | exact_match | f1 of dense |
| -------------- | ----------------------: | ---------------------: | ----: | ----------: | ----------: |
| dense          |                   0.0 % |                  0.0 % | 80.00 |       70.00 |     100.0 % |
| topk:0.5       |                  50.0 % |                 25.0 % | 76.00 |       66.00 |      95.0 % |
| topk:0.8       |                  80.0 % |                 40.0 % | 40.00 |       30.00 |      50.0 % |
| topk:0.5:layer |                  50.0 % |                 25.0 % | 72.00 |       62.00 |      90.0 % |
| nm:2:4         |                  50.0 % |                 25.0 % | 70.00 |       60.00 |      87.5 % |"""
    )


def test_a_baseline_adds_the_difference_where_it_has_the_same_compression():
    baseline = make_results({"dense": 81.0, "topk:0.5": 50.5}, label="Adam|W")
    lines = table(make_results(), baseline, metrics=["f1"]).splitlines()
    assert lines[0].endswith(r"|    f1 | f1 of dense | f1 vs Adam\|W |")
    assert [line.split(" | ")[-1].strip(" |") for line in lines[2:]] == ["-1.00", "+25.50", "-", "-", "-"]


def test_a_baseline_scored_on_other_data_is_remarked():
    baseline = make_results(label="AdamW", rows=(row("dense", 81.0, 0.0, examples=10570),))
    remark = "Not the same data: CrAM+ was scored on 100 examples, AdamW on 10,570."
    assert table(make_results(), baseline).splitlines()[-2:] == ["", remark]


def test_a_baseline_of_another_task_is_refused():
    baseline = make_results(
        label="MNLI", task="glue", main_metric="accuracy", rows=(row("dense", 1, 0, metrics={"accuracy": 0.8}),)
    )
    with pytest.raises(ValueError, match="baseline 'MNLI' \\(glue\\) has no 'f1', it has accuracy: give --baseline"):
        table(make_results(), baseline)


def test_scores_below_one_have_four_digits_and_missing_ones_a_dash():
    rows = (row("dense", 0, 0, metrics={"f1": 0.5}), row("nm:2:4", 0, 0.5, metrics={"f1": None}))
    lines = table(make_results(rows=rows)).splitlines()
    assert lines[2].split("|")[4:6] == [" 0.5000 ", "     100.0 % "]
    assert lines[3].split("|")[4:6] == ["      - ", "           - "]


def test_without_a_dense_row_no_share_is_claimed():
    assert table(make_results({"nm:2:4": 70.0})).splitlines()[2].endswith("|           - |")


def test_counts_thresholds_and_best_values_stay_in_the_file():
    metrics = {"exact": 1.0, "f1": 2.0, "total": 3.0, "HasAns_total": 3.0, "best_f1": 4.0, "best_f1_thresh": 0.0}
    assert shown_metrics(make_results(rows=(row("dense", 0, 0, metrics=metrics),))) == ["f1", "exact"]
