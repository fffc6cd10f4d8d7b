"""The search for the highest sparsity, on scores that are written down: sample, whole set, both directions."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cram_hf import NM, TopK
from cram_hf.choosing import Budget, Search
from cram_hf.results import DENSE, Row


class Written:
    """Scores as a function of sparsity, in place of a model; remembers what was asked."""

    def __init__(self, score: Any, metric: str = "f1") -> None:
        self.score, self.metric, self.asked = score, metric, list[str]()
        self.trainer = SimpleNamespace(compressible={"w": torch.zeros(4, 6)})

    def row(self, compressor: Any = None) -> Row:
        sparsity = 0.0 if compressor is None else getattr(compressor, "sparsity", 0.5)
        spec = compressor.spec if compressor else DENSE
        self.asked += [spec] if spec not in self.asked else []
        return Row(spec, {self.metric: self.score(sparsity)}, sparsity, sparsity / 2, 0.1, 10)


def search(subset: Any, full: Any, max_drop: float = 1.0, metric: str = "f1") -> Search:
    whole = Written(full, metric)
    return Search(Written(subset, metric) if subset else whole, whole, Budget(metric, max_drop))


def falls(last: float, height: float = 90.0) -> Any:
    """A score that stays as it is up to `last` and is five points lower from the next hundredth on."""
    return lambda sparsity: height if sparsity <= last + 1e-9 else height - 5


class TestLadder:
    def test_what_the_sample_finds_and_the_whole_set_confirms(self):
        found = search(falls(0.72), falls(0.80))
        answer = found.ladder("global", lambda k: TopK(k / 100))
        assert (answer.spec, answer.target, answer.subset_spec, answer.note) == ("topk:0.72", 0.72, "topk:0.72", "")
        assert (answer.score, answer.drop) == (90.0, 0.0)
        assert found.full.asked == ["topk:0.72", DENSE]

    def test_a_refuted_sample_is_stepped_down_from_and_that_is_said(self):
        found = search(falls(0.72), falls(0.69))
        answer = found.ladder("layer", lambda k: TopK(k / 100, "layer"))
        assert (answer.spec, answer.subset_spec) == ("topk:0.69:layer", "topk:0.72:layer")
        assert answer.note == "the whole set refutes topk:0.72:layer, which the sample had found: stepped down"
        tried = {(point["on"], point["spec"]): point["within"] for point in found.tried}
        assert tried["all", "topk:0.72:layer"] is tried["all", "topk:0.71:layer"] is False
        assert tried["all", "topk:0.69:layer"] is True
        assert tried["all", "topk:0.7:layer"] is False

    def test_every_point_is_told_once_with_its_drop(self):
        found = search(None, lambda sparsity: 90 - 10 * sparsity)
        found.ladder("global", lambda k: TopK(k / 100))
        assert len({point["spec"] for point in found.tried}) == len(found.tried) == 7
        point = found.tried[0]
        assert (point["pattern"], point["on"], point["spec"], point["within"]) == ("global", "all", "topk:0.5", False)
        assert (point["score"], point["drop"], point["sparsity"]) == (85.0, 5.0, 0.5)

    def test_a_drop_of_just_the_budget_is_within_it_in_spite_of_rounding(self):
        assert 0.62 - 0.61 > 0.01
        found = search(None, lambda sparsity: 0.61 if sparsity else 0.62, max_drop=0.01)
        assert found.ladder("global", lambda k: TopK(k / 100)).target == 0.99

    @pytest.mark.parametrize("metric", ["perplexity", "loss"])
    def test_lower_is_better_for_a_perplexity_and_a_loss(self, metric):
        found = search(None, lambda sparsity: 5 + 4 * sparsity, metric=metric)
        answer = found.ladder("global", lambda k: TopK(k / 100))
        assert (answer.target, answer.score, answer.drop) == (0.25, 6.0, 1.0)

    def test_nothing_within_the_budget(self):
        answer = search(falls(0.0), falls(0.5)).ladder("global", lambda k: TopK(k / 100))
        assert answer.spec is None
        assert answer.note == "not even topk:0.01 is within the budget on the sample"

    def test_a_whole_set_that_refutes_everything(self):
        answer = search(falls(0.3), falls(0.0)).ladder("global", lambda k: TopK(k / 100))
        assert (answer.spec, answer.note) == (None, "the whole set refutes topk:0.3 and all below it")

    def test_a_score_that_is_not_finite_is_never_within(self):
        found = search(None, lambda sparsity: None if sparsity > 0.4 else 90.0)
        assert found.ladder("global", lambda k: TopK(k / 100)).target == 0.4


class TestYesOrNo:
    def test_yes(self):
        answer = search(falls(0.1), falls(0.5)).yes_or_no("nm:1:2", NM(1, 2))
        assert (answer.spec, answer.sparsity, answer.target, answer.subset_spec) == ("nm:1:2", 0.5, None, None)

    def test_no_with_the_drop(self):
        answer = search(falls(0.9), falls(0.4)).yes_or_no("nm:1:2", NM(1, 2))
        assert (answer.spec, answer.sparsity, answer.score, answer.drop) == (None, None, 85.0, 5.0)

    def test_a_pattern_that_does_not_fit_the_shapes_is_a_no(self):
        answer = search(falls(0.9), falls(0.9)).yes_or_no("nm:2:4", NM(2, 4))
        assert answer.note.startswith("does not fit the model: ")
        assert "multiple of 4" in answer.note


class TestBudget:
    def check(self, metric: str, max_drop: float, score: float | None) -> None:
        Budget(metric, max_drop).check(Row(DENSE, {"f1": score, "perplexity": score}, 0.0, 0.0, 0.1, 10))

    @pytest.mark.parametrize(
        ("metric", "max_drop", "score", "sentence"),
        [
            ("f11", 1.0, 90.0, "--metric f11: the task has f1, perplexity. Did you mean f1?"),
            ("f1", 1.0, 0.9, "--max-drop 1: the dense model has f1 0.9, so this would allow anything"),
            ("f1", 1.0, None, "--metric f1: the dense model's is not finite"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, metric, max_drop, score, sentence):
        with pytest.raises(ValueError, match=re.escape(sentence)):
            self.check(metric, max_drop, score)

    def test_a_perplexity_may_rise_by_more_than_it_is(self):
        self.check("perplexity", 6.0, 5.0)
