"""The figures of an update are those worked out by hand, and those of the literal method in a run."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import reference
import torch
from conftest import HEADS, rows
from torch import Tensor, nn
from trainer_fixtures import train

from cram_hf import NM, Quantize, TopK, compressible_weights
from cram_hf.core import Point
from cram_hf.monitor import STRIDE, Monitor

ALONE = SimpleNamespace(reduce=lambda value, how: {"mean": value}[how])  # the accelerator of one process
LOSS = torch.tensor(1.0)


def three_four_five() -> nn.Module:
    """A module whose weights have length 5."""
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = torch.tensor([[3.0, 4.0]])
    return model


def flushed(monitor: Monitor) -> dict[str, float]:
    return monitor.flush(three_four_five(), ALONE)


def point(step: float = 1.0, **masks: Tensor) -> Point:
    return Point({}, {}, masks, step)


def mask(*sampled: int, rest: bool = True) -> Tensor:
    """A mask with these values where it is looked at: at every 61st entry."""
    found = torch.full((len(sampled), STRIDE), rest)
    found[:, 0] = torch.tensor(sampled, dtype=torch.bool)
    return found


class TestMaskChange:
    def test_is_the_share_of_the_sampled_entries_that_differ_over_all_weights(self):
        monitor = Monitor()
        monitor.update(TopK(0.5), point(query=mask(1, 1, 0, 0), key=mask(1, 0)), LOSS)
        monitor.update(TopK(0.5), point(query=mask(1, 0, 1, 0), key=mask(0, 0)), LOSS)
        assert flushed(monitor)["mask_change"] == 3 / 6

    def test_is_averaged_over_the_updates_that_could_be_compared(self):
        monitor = Monitor()
        for sampled in ((1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 1, 0), (1, 0, 1, 1)):
            monitor.update(TopK(0.5), point(query=mask(*sampled)), LOSS)
        assert flushed(monitor)["mask_change"] == (2 / 4 + 0 + 1 / 4) / 3

    def test_compares_a_compressor_with_its_own_last_mask_also_before_the_last_log(self):
        monitor = Monitor()
        monitor.update(TopK(0.5), point(query=mask(1, 1, 1, 1)), LOSS)
        monitor.update(NM(2, 4), point(query=mask(0, 0, 0, 0)), LOSS)
        assert "mask_change" not in flushed(monitor)  # each drawn once
        monitor.update(NM(2, 4), point(query=mask(0, 0, 0, 1)), LOSS)
        assert flushed(monitor)["mask_change"] == 1 / 4
        monitor.update(TopK(0.5), point(query=mask(1, 0, 0, 1)), LOSS)
        assert flushed(monitor)["mask_change"] == 2 / 4

    def test_is_of_a_sample_and_not_given_for_what_has_no_masks(self):
        monitor = Monitor()
        monitor.update(TopK(0.5), point(query=mask(1, 0, rest=True)), LOSS)
        monitor.update(TopK(0.5), point(query=mask(1, 0, rest=False)), LOSS)
        assert flushed(monitor)["mask_change"] == 0
        for _ in range(2):
            monitor.update(Quantize(8), point(), LOSS)
        assert "mask_change" not in flushed(monitor)


class TestLossesAndDraws:
    def test_are_averaged_for_each_compressor_and_over_all_updates(self):
        monitor = Monitor()
        for compressor, loss in ((TopK(0.5), 1.0), (NM(2, 4), 2.0), (TopK(0.5), 3.0), (TopK(0.5), 8.0)):
            monitor.update(compressor, point(), torch.tensor(loss))
        logs = flushed(monitor)
        assert {key: value for key, value in logs.items() if key.startswith("loss")} == {
            "loss_compressed": 3.5,
            "loss_compressed_topk_0.5": 4.0,
            "loss_compressed_nm_2_4": 2.0,
        }
        assert (logs["drawn_topk_0.5"], logs["drawn_nm_2_4"]) == (0.75, 0.25)

    def test_start_anew_after_a_log(self):
        monitor = Monitor()
        monitor.update(TopK(0.5), point(), torch.tensor(1.0))
        flushed(monitor)
        assert flushed(monitor) == {}
        monitor.update(NM(2, 4), point(), torch.tensor(5.0))
        logs = flushed(monitor)
        assert (logs["loss_compressed"], logs["drawn_nm_2_4"]) == (5.0, 1.0)
        assert "drawn_topk_0.5" not in logs

    def test_are_the_means_of_all_ranks(self):
        monitor = Monitor()
        monitor.update(TopK(0.5), point(), torch.tensor(1.0))
        other_rank_has_3 = SimpleNamespace(reduce=lambda value, how: {"mean": (value + 3) / 2}[how])
        logs = monitor.flush(three_four_five(), other_rank_has_3)
        assert (logs["loss_compressed"], logs["loss_compressed_topk_0.5"]) == (2.0, 2.0)


class TestTheStep:
    def test_is_relative_to_the_length_of_the_weights(self):
        monitor = Monitor()
        for step in (1.0, 2.0, 3.0):
            monitor.update(TopK(0.5), point(step), LOSS)
        logs = flushed(monitor)
        assert logs["relative_step"] == pytest.approx(2 / 5)
        assert logs["skipped_perturbations"] == 0

    def test_that_is_not_finite_is_counted_and_left_out_of_the_mean(self):
        monitor = Monitor()
        for step in (math.nan, 2.0, math.inf, 4.0):
            monitor.update(TopK(0.5), point(step), LOSS)
        logs = flushed(monitor)
        assert (logs["skipped_perturbations"], logs["relative_step"]) == (2, pytest.approx(3 / 5))
        monitor.update(TopK(0.5), point(math.inf), LOSS)
        logs = flushed(monitor)
        assert logs["skipped_perturbations"] == 1
        assert "relative_step" not in logs


def literal(model: nn.Module, examples: list[dict[str, object]], rho: float) -> dict[str, object]:
    """Of one update with topk:0.7 at the weights of `model`: L(C(w + rho g)), the length of rho g, the mask M."""
    batch = {key: torch.stack([torch.as_tensor(row[key]) for row in examples]) for key in examples[0]}
    w = {name: p.detach().clone() for name, p in model.named_parameters()}
    g = reference.gradient(model, w, batch)
    ascended = {name: w[name] + rho * g[name] for name in w}
    chosen = list(compressible_weights(model))
    kept = reference.top_k({n: ascended[n] for n in chosen}, int(0.7 * sum(w[n].numel() for n in chosen)))
    compressed = ascended | {name: ascended[name] * kept[name] for name in chosen}
    return {
        "loss": float(reference.loss_at(model, compressed, batch)),
        "step": float(torch.sqrt(sum((rho * value).square().sum() for value in g.values()))),
        "mask": torch.cat([kept[name].flatten()[::STRIDE] for name in chosen]),
    }


@pytest.mark.parametrize("cut", [(8, 1), (2, 4)])
@pytest.mark.parametrize("head", HEADS)
def test_a_run_logs_the_figures_of_the_literal_method(tmp_path, make_model, head, cut):
    examples = rows(head, 24)
    built, seen = train(
        tmp_path,
        make_model(head),
        head,
        train_dataset=examples,
        train_sampling_strategy="sequential",
        compressors=["topk:0.7"],
        per_device_train_batch_size=cut[0],
        gradient_accumulation_steps=cut[1],
    )
    logs = [log for log in built.state.log_history if "loss" in log]
    at_log = [*seen.weights[1:], dict(built.model.named_parameters())]
    oracle, masks = make_model(head), []
    for update, (log, w) in enumerate(zip(logs, at_log, strict=True)):
        oracle.load_state_dict(seen.weights[update], strict=False)
        expected = literal(oracle, examples[8 * update :][:8], rho=0.1)
        assert log["loss_compressed"] == log["loss_compressed_topk_0.7"] == pytest.approx(expected["loss"], rel=1e-5)
        assert abs(log["loss_compressed"] - log["loss"]) > 1e-3  # it is not the dense one
        length = torch.sqrt(sum(value.detach().square().sum() for value in w.values()))
        assert log["relative_step"] == pytest.approx(expected["step"] / float(length), rel=1e-4)
        masks.append(expected["mask"])
    changes = [float((new != old).float().mean()) for old, new in pairwise(masks)]
    assert [log.get("mask_change") for log in logs] == [None, *map(pytest.approx, changes)]
    assert all(change > 0 for change in changes)
