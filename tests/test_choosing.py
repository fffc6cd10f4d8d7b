"""The search on a ladder against trying every step, and the budget over layers against every allocation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from cram_hf.choosing import Point, highest, output_shift, spread, step_down
from cram_hf.choosing.spread import hull

thorough = settings(max_examples=200, deadline=None, derandomize=True)


class Asked:
    """A test of steps that remembers which were asked about."""

    def __init__(self, passing: set[int]) -> None:
        self.passing, self.steps = passing, list[int]()

    def __call__(self, step: int) -> bool:
        self.steps.append(step)
        return step in self.passing


def top(passing: set[int]) -> int:
    """The highest step that passes, by trying them all; 0 if none does."""
    return max(passing, default=0)


class TestHighest:
    @thorough
    @given(st.integers(0, 99))
    def test_equals_the_exhaustive_search_where_scores_only_fall(self, last):
        asked = Asked(set(range(1, last + 1)))
        assert highest(asked, 0, 100) == top(asked.passing) == last
        assert len(asked.steps) <= 7
        assert len(set(asked.steps)) == len(asked.steps)

    @thorough
    @given(st.sets(st.integers(1, 99)))
    def test_elsewhere_what_it_returns_has_passed_and_the_next_step_has_not(self, passing):
        asked = Asked(passing)
        found = highest(asked, 0, 100)
        assert found == 0 or (found in passing and found in asked.steps)
        assert found == 99 or (found + 1 not in passing and found + 1 in asked.steps)

    def test_misses_what_lies_behind_a_gap(self):
        assert highest(Asked({*range(1, 20), 90}), 0, 100) == 19

    def test_ends_are_taken_for_granted(self):
        asked = Asked(set())
        assert highest(asked, 4, 5) == 4
        assert asked.steps == []

    def test_an_empty_ladder_is_refused(self):
        with pytest.raises(ValueError, match="low 5 must be below high 5"):
            highest(Asked(set()), 5, 5)


class TestStepDown:
    @thorough
    @given(st.integers(1, 99), st.integers(0, 99))
    def test_equals_the_exhaustive_search_below_the_start_where_scores_only_fall(self, start, last):
        asked = Asked(set(range(1, last + 1)))
        assert step_down(asked, start) == min(start, last)
        assert 0 not in asked.steps
        assert max(asked.steps) == start
        assert len(set(asked.steps)) == len(asked.steps)

    @thorough
    @given(st.integers(1, 99), st.sets(st.integers(1, 99)))
    def test_elsewhere_what_it_returns_has_passed(self, start, passing):
        asked = Asked(passing)
        found = step_down(asked, start)
        assert found == 0 or (found in passing and found in asked.steps)
        assert found == start or found + 1 not in passing

    def test_asks_once_when_the_start_passes(self):
        asked = Asked({70})
        assert step_down(asked, 70) == 70
        assert asked.steps == [70]

    def test_goes_down_in_growing_steps_and_up_again_by_bisection(self):
        asked = Asked(set(range(1, 66)))
        assert step_down(asked, 70) == 65
        assert asked.steps == [70, 69, 67, 63, 65, 66]


def cost(points: list[Point], count: int) -> float:
    """A layer's cost, interpolated in straight lines."""
    (left, right) = next(pair for pair in itertools.pairwise(points) if pair[0][0] <= count <= pair[1][0])
    return left[1] + (right[1] - left[1]) / (right[0] - left[0]) * (count - left[0])


def total(curves: dict[str, list[Point]], zeros: dict[str, int]) -> float:
    return sum(cost(points, zeros[name]) for name, points in curves.items())


def least(curves: dict[str, list[Point]], budget: int) -> float:
    """The least total cost of every allocation of whole numbers."""
    ranges = [range(points[-1][0] + 1) for points in curves.values()]
    fitting = (found for found in itertools.product(*ranges) if sum(found) == budget)
    return min(total(curves, dict(zip(curves, found, strict=True))) for found in fitting)


@st.composite
def curves(draw, *, convex: bool) -> dict[str, list[Point]]:
    """One to three layers of at most eight weights with a few measured costs, falling ones too."""
    found = {}
    for layer in range(draw(st.integers(1, 3))):
        counts = sorted(draw(st.sets(st.integers(1, 8), min_size=1, max_size=4)))
        slopes = draw(st.lists(st.integers(-4, 20), min_size=len(counts), max_size=len(counts)))
        points = [(0, 0.0)]
        for count, slope in zip(counts, sorted(slopes) if convex else slopes, strict=True):
            points.append((count, points[-1][1] + slope * (count - points[-1][0])))
        found[f"layer {layer}"] = points
    return found


class TestSpread:
    @thorough
    @given(curves(convex=True), st.data())
    def test_equals_the_best_of_all_allocations_where_curves_are_convex(self, layers, data):
        budget = data.draw(st.integers(0, sum(points[-1][0] for points in layers.values())))
        found = spread(layers, budget)
        assert sum(found.values()) == budget
        assert total(layers, found) == pytest.approx(least(layers, budget))

    @thorough
    @given(curves(convex=False), st.data())
    def test_elsewhere_no_allocation_beats_it_by_more_than_one_layers_distance_to_its_hull(self, layers, data):
        budget = data.draw(st.integers(0, sum(points[-1][0] for points in layers.values())))
        found = spread(layers, budget)
        assert sum(found.values()) == budget
        off = [name for name, count in found.items() if count not in [point[0] for point in hull(layers[name])]]
        assert len(off) <= 1
        gap = sum(cost(layers[name], found[name]) - cost(hull(layers[name]), found[name]) for name in off)
        assert total(layers, found) - gap <= least(layers, budget) + 1e-9

    def test_the_cheaper_layer_goes_first_and_the_last_piece_in_part(self):
        layers = {"dear": [(0, 0.0), (10, 5.0)], "cheap": [(0, 0.0), (4, 0.4), (8, 8.0)]}
        assert spread(layers, 3) == {"dear": 0, "cheap": 3}
        assert spread(layers, 10) == {"dear": 6, "cheap": 4}

    def test_of_equally_dear_layers_the_earlier_goes_first(self):
        layers = {"b": [(0, 0.0), (4, 1.0)], "a": [(0, 0.0), (4, 1.0)]}
        assert spread(layers, 5) == {"b": 4, "a": 1}

    def test_a_layer_without_weights_gets_nothing(self):
        assert spread({"empty": [(0, 0.0)], "w": [(0, 0.0), (4, 1.0)]}, 2) == {"empty": 0, "w": 2}

    @pytest.mark.parametrize(
        ("points", "zeros", "sentence"),
        [
            ([(0, 0.0), (4, math.nan)], 1, "w: a cost is not finite"),
            ([(0, 0.0), (4, math.inf)], 1, "w: a cost is not finite"),
            ([(1, 0.0), (4, 1.0)], 1, r"w: points start at \(0, 0.0\)"),
            ([(0, 0.0), (4, 1.0), (4, 2.0)], 1, "their counts rise"),
            ([], 0, r"w: points start at \(0, 0.0\)"),
            ([(0, 0.0), (4, 1.0)], 5, "5 zeros cannot be spread over 4 weights"),
            ([(0, 0.0), (4, 1.0)], -1, "-1 zeros cannot be spread"),
        ],
    )
    def test_wrong_points_are_refused(self, points, zeros, sentence):
        with pytest.raises(ValueError, match=sentence):
            spread({"w": points}, zeros)


class TestOutputShift:
    FEATURES = Dataset.from_dict({"attention_mask": [[1, 1, 1], [1, 1, 0]]})

    def test_is_the_mean_squared_difference(self):
        dense, pruned = np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([[1.0, 1.0], [2.0, 0.0]])
        assert output_shift(dense, pruned, self.FEATURES) == (1 + 9) / 4

    def test_of_logits_for_each_token_leaves_out_padding_and_the_mean_over_the_tokens(self):
        dense = (np.zeros((2, 3)), np.zeros((2, 3)))
        pruned = (np.array([[5.0, 5.0, 5.0], [1.0, 3.0, 99.0]]), np.array([[0.0, 3.0, 6.0], [0.0, 0.0, 7.0]]))
        starts, ends = [0, 1], [6, 0]  # variances over the tokens of each row
        assert output_shift(dense, pruned, self.FEATURES) == pytest.approx(sum(starts) / 2 + sum(ends) / 2)
