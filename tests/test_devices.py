"""The same on a CPU and on a GPU: the compressors, the way to the compressed point and back, and an update."""

from __future__ import annotations

import math

import pytest
import reference
import torch
from compressor_fixtures import COMPRESSORS, DTYPES, PALETTE, copies, same_bits
from conftest import assert_same, rows, snapshot
from torch import Tensor, nn
from trainer_fixtures import distance, train

from cram_hf import NM, Quantize, TopK, compressible_weights, cram_point, cram_step, parse_compressor, swapped


@pytest.fixture(params=[TopK(0.7), NM(2, 4), Quantize(4)], ids=lambda c: c.spec)
def compressor(request):
    return request.param


def collection(dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights with ties, zeros of both signs and subnormal numbers, in several shapes."""
    generator = torch.Generator().manual_seed(0)
    ties = torch.tensor(PALETTE, dtype=torch.float64)[torch.randint(len(PALETTE), (6, 16), generator=generator)]
    normal = torch.randn(40, 24, generator=generator, dtype=torch.float64)
    found = {"ties": ties, "normal": normal, "empty": torch.zeros(0, 8), "strided": normal[:8].t()}
    return {name: w.to(dtype) for name, w in found.items()}


def batch_of(device: torch.device, head: str = "question_answering") -> dict[str, Tensor]:
    examples = rows(head, 8)
    return {key: torch.stack([torch.as_tensor(row[key]) for row in examples]).to(device) for key in examples[0]}


def literal(model: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """The gradient of a CrAM+ update with topk:0.7."""
    weights = compressible_weights(model)
    count = int(0.7 * sum(w.numel() for w in weights.values()))

    def mask_of(w: dict[str, Tensor]) -> dict[str, Tensor]:
        masks = reference.top_k({name: value.cpu() for name, value in w.items()}, count)
        return {name: mask.to(device) for name, mask in masks.items()}

    return reference.cram_gradient(model, batch_of(device), list(weights), mask_of, rho=0.1, plus=True)


class TestCompressors:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("spec", [c.spec for c in COMPRESSORS])
    def test_keep_the_contract_and_agree_with_the_cpu(self, device, spec, dtype):
        compressor, cpu = parse_compressor(spec), collection(dtype)
        weights = {name: w.to(device) for name, w in cpu.items()}
        before = copies(weights)
        once, masks = compressor(weights), compressor.apply_(copies(weights))
        assert same_bits(weights, before)
        assert same_bits(compressor(weights), once)
        assert same_bits(compressor(once), once)
        for name, w in weights.items():
            assert (once[name].device, once[name].dtype, once[name].shape) == (w.device, dtype, w.shape)
        if "lamp" not in spec:  # its scores are sums, which devices take in different orders
            assert same_bits({name: w.cpu() for name, w in once.items()}, compressor(cpu))
            expected = compressor.apply_(copies(cpu))
            assert masks.keys() == expected.keys()
            assert all(torch.equal(masks[name].cpu(), mask) for name, mask in expected.items())

    @pytest.mark.parametrize("spec", [c.spec for c in COMPRESSORS])
    def test_refuse_nan_by_name(self, device, spec):
        weights = {name: torch.ones(2, 8, device=device) for name in ("key", "query")}
        weights["query"][1, 3] = math.nan
        with pytest.raises(ValueError, match="1 of 2 weights hold NaN, first 'query'"):
            parse_compressor(spec).apply_(weights)
        assert (weights["key"] == 1).all()


class TestTheCompressedPoint:
    def test_is_entered_and_left_bit_for_bit_in_place_also_when_the_block_raises(self, make_model, device, compressor):
        model = make_model().to(device)
        model(**batch_of(device)).loss.backward()
        weights, parameters = compressible_weights(model), dict(model.named_parameters())
        before, pointers = snapshot(model), {name: p.data_ptr() for name, p in parameters.items()}
        point = cram_point(parameters, weights, compressor, rho=0.5)
        expected = copies(point.values)
        with swapped(parameters, point.values, point.rows):
            found = {name: parameters[name].detach()[point.rows.get(name, ...)].clone() for name in expected}
        assert_same(model, before)
        assert same_bits(found, expected)
        point = cram_point(parameters, weights, compressor, rho=0.5)
        with pytest.raises(RuntimeError, match="no memory"), swapped(parameters, point.values, point.rows):
            raise RuntimeError("no memory")
        assert_same(model, before)
        assert {name: p.data_ptr() for name, p in parameters.items()} == pointers
        assert any(not torch.equal(value, before[name]) for name, value in expected.items() if name in weights)

    @pytest.mark.parametrize("same_dropout", [True, False])
    def test_dropout_is_replayed(self, make_model, device, same_dropout):
        model, losses = make_model(dropout=0.5).to(device).train(), []

        def closure() -> Tensor:
            losses.append(model(**batch_of(device)).loss)
            losses[-1].backward()
            return losses[-1]

        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        cram_step(model, optimizer, closure, compressible_weights(model), TopK(0), rho=0.0, same_dropout=same_dropout)
        assert bool(losses[0] == losses[1]) == same_dropout


class TestAnUpdate:
    def settings(self, device: torch.device) -> dict[str, object]:
        settings = {"compressors": ["topk:0.7"], "max_steps": 1, "train_dataset": rows("question_answering", 8)}
        return settings | {"use_cpu": device.type == "cpu"}

    @pytest.mark.parametrize("change", [{}, {"bf16": True}], ids=str)
    def test_of_the_trainer_has_the_literal_gradient(self, tmp_path, make_model, device, change):
        model, oracle = make_model(), make_model().to(device)
        _, seen = train(tmp_path, model, **self.settings(device), **change)
        assert {g.device.type for g in seen.gradients[0].values()} == {device.type}
        assert distance(literal(oracle, device), seen.gradients[0]) < (0.05 if change else 1e-4)

    def test_leaves_the_weights_to_the_optimizer(self, tmp_path, make_model, device):
        model = make_model()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        _, seen = train(tmp_path, model, **self.settings(device))
        assert all(torch.equal(seen.weights[0][name].cpu(), w) for name, w in before.items())

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
    def test_in_fp16_ascends_as_far_as_in_fp32(self, tmp_path, make_model):
        """accelerate's own gradient scaler; an update that it skips for an overflow has no step."""
        settings = self.settings(torch.device("cuda")) | {"max_steps": 4, "learning_rate": 0.0}
        exact, scaled = (train(tmp_path, make_model(), **settings, fp16=fp16)[0] for fp16 in (False, True))
        exact_logs, logs = ([log for log in t.state.log_history if "loss" in log] for t in (exact, scaled))
        found = [(a, b) for a, b in zip(exact_logs, logs, strict=True) if not b["skipped_perturbations"]]
        assert found
        assert all(b["relative_step"] == pytest.approx(a["relative_step"], rel=0.05) for a, b in found)
