"""core equals the literal reference, and leaves nothing behind."""

from __future__ import annotations

import itertools

import pytest
import reference
import torch
from conftest import assert_same, rows, snapshot, tiny_config
from torch import nn
from transformers import BertConfig, BertForQuestionAnswering

from cram_hf import NM, TopK, compressible_weights, cram_point, cram_step, draw
from cram_hf.rng import rng_state, set_rng_state


def batch_of(head: str, count: int = 6) -> dict[str, torch.Tensor]:
    examples = rows(head, count)
    return {key: torch.stack([torch.as_tensor(row[key]) for row in examples]) for key in examples[0]}


def closure_for(model: nn.Module, batch: dict[str, torch.Tensor]):
    def closure() -> torch.Tensor:
        loss = model(**batch).loss
        loss.backward()
        return loss

    return closure


class TestCramStepEqualsTheReference:
    @pytest.mark.parametrize(
        ("plus", "masked", "perturb", "normalize_grad"),
        list(itertools.product([True, False], [True, False], ["all", "compressible"], [True, False])),
    )
    def test_for_every_variant(self, qa_model, plus, masked, perturb, normalize_grad):
        batch, weights = batch_of("question_answering"), compressible_weights(qa_model)
        count = int(0.7 * sum(w.numel() for w in weights.values()))
        options = {"plus": plus, "masked": masked, "perturb": perturb, "normalize_grad": normalize_grad}
        expected = reference.cram_gradient(
            qa_model, batch, list(weights), lambda w: reference.top_k(w, count), rho=0.1, **options
        )
        before = snapshot(qa_model)
        optimizer = torch.optim.SGD(qa_model.parameters(), lr=1.0)
        cram_step(qa_model, optimizer, closure_for(qa_model, batch), weights, TopK(0.7), rho=0.1, **options)
        for name, p in qa_model.named_parameters():
            torch.testing.assert_close(p.grad, expected[name], rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(p.detach(), before[name] - expected[name], rtol=1e-4, atol=1e-6)
        assert any(e.abs().max() > 1e-3 for e in expected.values())

    def test_for_a_table_of_which_a_batch_uses_few_rows(self):
        torch.manual_seed(0)
        model = BertForQuestionAnswering(BertConfig(**tiny_config().to_dict() | {"vocab_size": 500}))
        model.eval()
        batch, weights = batch_of("question_answering"), compressible_weights(model)
        count = int(0.7 * sum(w.numel() for w in weights.values()))
        expected = reference.cram_gradient(
            model, batch, list(weights), lambda w: reference.top_k(w, count), rho=5.0, plus=False
        )
        before = snapshot(model)
        closure, seen = closure_for(model, batch), []

        def watched() -> torch.Tensor:
            seen.append(snapshot(model))
            return closure()

        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        cram_step(model, optimizer, watched, weights, TopK(0.7), rho=5.0, plus=False)
        for name, p in model.named_parameters():
            torch.testing.assert_close(p.grad, expected[name], rtol=1e-4, atol=1e-6)
        assert_same(model, before)
        table = "bert.embeddings.word_embeddings.weight"
        moved = (seen[1][table] != before[table]).any(1)
        used = torch.zeros(500, dtype=torch.bool).index_fill_(0, batch["input_ids"].flatten(), True)
        assert torch.equal(moved, used)

    def test_sam_is_the_identity_compressor_with_normalised_gradient(self, qa_model):
        batch = batch_of("question_answering")
        w = {name: p.detach().clone() for name, p in qa_model.named_parameters()}
        g = reference.gradient(qa_model, w, batch)
        norm = torch.sqrt(sum((value**2).sum() for value in g.values()))
        expected = reference.gradient(qa_model, {name: w[name] + 0.05 * g[name] / norm for name in w}, batch)
        optimizer = torch.optim.SGD(qa_model.parameters(), lr=0.0)
        cram_step(
            qa_model,
            optimizer,
            closure_for(qa_model, batch),
            compressible_weights(qa_model),
            TopK(0),
            rho=0.05,
            plus=False,
            normalize_grad=True,
        )
        for name, p in qa_model.named_parameters():
            torch.testing.assert_close(p.grad, expected[name], rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize(
        "optimizer",
        ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "Rprop", "ASGD"],
    )
    def test_rho_0_identity_without_plus_is_the_plain_optimizer_bit_for_bit(self, make_model, optimizer):
        plain, ours, batch = make_model(), make_model(), batch_of("question_answering")
        plain_opt, our_opt = (getattr(torch.optim, optimizer)(m.parameters(), lr=0.01) for m in (plain, ours))
        for _ in range(3):
            plain_opt.zero_grad()
            closure_for(plain, batch)()
            plain_opt.step()
            cram_step(
                ours, our_opt, closure_for(ours, batch), compressible_weights(ours), TopK(0), rho=0.0, plus=False
            )
        assert_same(ours, snapshot(plain))


class TestWeightsComeBack:
    def test_when_the_second_pass_raises(self, qa_model):
        before, batch = snapshot(qa_model), batch_of("question_answering")
        closure, calls = closure_for(qa_model, batch), itertools.count()

        def failing() -> torch.Tensor:
            if next(calls) == 1:
                raise RuntimeError("out of memory")
            return closure()

        optimizer = torch.optim.SGD(qa_model.parameters(), lr=1.0)
        weights = compressible_weights(qa_model)
        with pytest.raises(RuntimeError, match="out of memory"):
            cram_step(qa_model, optimizer, failing, weights, TopK(0.7), rho=0.5)
        assert_same(qa_model, before)
        assert all(not w._backward_hooks for w in weights.values())

    def test_with_tied_weights_and_frozen_parameters(self, make_model):
        model, batch = make_model("masked_lm"), batch_of("masked_lm")
        assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
        model.bert.embeddings.position_embeddings.weight.requires_grad_(False)
        before = snapshot(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        cram_step(model, optimizer, closure_for(model, batch), compressible_weights(model), TopK(0.7), rho=0.5)
        assert_same(model, before)

    def test_of_parameters_with_a_gradient_in_only_one_pass(self):
        torch.manual_seed(0)
        model = nn.ModuleDict({name: nn.Linear(4, 4) for name in ("always", "first", "second")})
        weights, x = {"always.weight": model["always"].weight}, torch.randn(3, 4)
        passes = itertools.count()

        def closure() -> torch.Tensor:
            other = model["second"] if next(passes) else model["first"]
            loss = other(model["always"](x)).square().mean()
            loss.backward()
            return loss

        before = snapshot(model)
        cram_step(model, torch.optim.SGD(model.parameters(), lr=0.0), closure, weights, TopK(0.5), rho=0.5)
        assert_same(model, before)
        assert all(p.grad is not None for p in model.parameters())

    def test_when_the_compressible_weights_are_frozen(self, qa_model):
        batch = batch_of("question_answering")
        weights = compressible_weights(qa_model)
        for w in list(weights.values())[:3]:
            w.requires_grad_(False)
        before = snapshot(qa_model)
        optimizer = torch.optim.SGD(qa_model.parameters(), lr=0.0)
        cram_step(qa_model, optimizer, closure_for(qa_model, batch), weights, TopK(0.7), rho=0.5)
        assert_same(qa_model, before)

    @pytest.mark.parametrize("choose_from", ["submodule", "unwrapped"])
    def test_when_the_weights_have_other_names_than_in_the_model(self, qa_model, choose_from):
        batch = batch_of("question_answering")
        weights = compressible_weights(qa_model.bert if choose_from == "submodule" else qa_model)
        model = qa_model if choose_from == "submodule" else nn.ModuleDict({"wrapper": qa_model})
        before = snapshot(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        cram_step(model, optimizer, closure_for(qa_model, batch), weights, TopK(0.7), rho=0.5)
        assert_same(model, before)


class TestCompressedPass:
    def test_leaves_batchnorm_statistics_as_one_dense_pass_would(self):
        torch.manual_seed(0)
        ours = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))
        x = torch.randn(5, 1, 8, 8)

        def closure() -> torch.Tensor:
            loss = ours(x).square().mean()
            loss.backward()
            return loss

        expected = nn.BatchNorm2d(4)
        expected(ours[0](x))
        optimizer = torch.optim.SGD(ours.parameters(), lr=0.1)
        cram_step(ours, optimizer, closure, compressible_weights(ours), TopK(0.5), rho=0.1)
        assert torch.equal(ours[1].running_mean, expected.running_mean)
        assert torch.equal(ours[1].running_var, expected.running_var)
        assert ours[1].num_batches_tracked == 1

    def test_replays_dropout_and_leaves_the_stream_where_one_pass_would(self, make_model):
        model, batch = make_model(dropout=0.5), batch_of("question_answering")
        model.train()
        losses, closure = [], closure_for(model, batch)
        device = torch.device("cpu")

        def recording() -> torch.Tensor:
            losses.append(closure())
            return losses[-1]

        for same in (True, False):
            losses.clear()
            torch.manual_seed(1)
            start = rng_state(device)
            model(**batch)
            one_pass = rng_state(device)
            set_rng_state(start, device)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
            weights = compressible_weights(model)
            cram_step(model, optimizer, recording, weights, TopK(0), rho=0.0, same_dropout=same)
            assert bool(losses[0] == losses[1]) == same
            assert torch.equal(rng_state(device)[0], one_pass[0]) == same

    def test_closure_that_clears_gradients_is_refused(self, qa_model):
        batch = batch_of("question_answering")
        optimizer = torch.optim.SGD(qa_model.parameters(), lr=1.0)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            return closure_for(qa_model, batch)()

        with pytest.raises(ValueError, match="closure cleared the gradients"):
            cram_step(qa_model, optimizer, closure, compressible_weights(qa_model), TopK(0.5), rho=0.0)

    def test_gradients_of_parameters_outside_the_optimizer_do_not_pile_up(self, qa_model):
        batch, weights = batch_of("question_answering"), compressible_weights(qa_model)
        optimizer = torch.optim.SGD(qa_model.qa_outputs.parameters(), lr=0.0)
        norms = []
        for _ in range(2):
            cram_step(qa_model, optimizer, closure_for(qa_model, batch), weights, TopK(0.5), rho=0.1)
            norms.append(float(next(iter(weights.values())).grad.norm()))
        assert norms[0] == norms[1] > 0

    def test_no_weights_are_refused(self, qa_model):
        optimizer = torch.optim.SGD(qa_model.parameters(), lr=1.0)
        with pytest.raises(ValueError, match="no weights to compress"):
            cram_step(qa_model, optimizer, lambda: torch.tensor(0.0), {}, TopK(0.5), rho=0.0)

    def test_lbfgs_is_refused(self, qa_model):
        optimizer, weights = torch.optim.LBFGS(qa_model.parameters()), compressible_weights(qa_model)
        with pytest.raises(TypeError, match="LBFGS"):
            cram_step(qa_model, optimizer, lambda: torch.tensor(0.0), weights, TopK(0.5), rho=0.0)


class TestCramPoint:
    def test_is_pure_and_divides_by_the_gradient_scale(self):
        w = torch.tensor([[1.0, -2.0, 3.0, -4.0]], requires_grad=True)
        w.grad = torch.tensor([[80.0, 0.0, 0.0, 0.0]])
        point = cram_point({"w": w}, {"w": w}, TopK(0.5), rho=0.5, grad_scale=10.0)
        assert point.values["w"].tolist() == [[5.0, 0.0, 0.0, -4.0]]
        assert point.masks["w"].tolist() == [[True, False, False, True]]
        assert point.step == 4.0
        assert w.tolist() == [[1.0, -2.0, 3.0, -4.0]]
        assert w.grad.tolist() == [[80.0, 0.0, 0.0, 0.0]]

    def test_holds_only_the_rows_that_move_of_a_table(self):
        table, weight = (torch.ones(6, 2, requires_grad=True) for _ in range(2))
        table.grad, weight.grad = torch.zeros(6, 2), torch.zeros(6, 2)
        table.grad[4, 1] = table.grad[1, 0] = -1.0
        point = cram_point({"t": table, "w": weight}, {"w": weight}, TopK(0), rho=0.5)
        assert point.rows["t"].tolist() == [1, 4]
        assert point.values["t"].tolist() == [[0.5, 1.0], [1.0, 0.5]]
        assert point.rows.keys() == {"t"}  # what is compressed is held whole
        table.grad[5] = 1e-45  # the least number above zero
        point = cram_point({"t": table}, {"w": weight}, TopK(0), rho=0.5)
        assert point.rows == {}  # half of them or more
        assert point.values["t"].shape == (6, 2)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    @pytest.mark.parametrize("rho", [0.5, 0.0])
    @pytest.mark.parametrize("normalize_grad", [True, False])
    def test_does_not_move_along_a_gradient_that_is_not_finite(self, bad, rho, normalize_grad):
        w = torch.tensor([[1.0, -2.0]], requires_grad=True)
        w.grad = torch.tensor([[bad, 1.0]])
        point = cram_point({"w": w}, {"w": w}, TopK(0.5), rho=rho, normalize_grad=normalize_grad)
        assert point.values["w"].tolist() == [[0.0, -2.0]]
        assert not torch.isfinite(torch.tensor(point.step))


class TestDraw:
    def test_is_a_pure_function_of_seed_and_update(self):
        compressors = [TopK(0.5), TopK(0.7), NM(2, 4)]
        drawn = [draw(compressors, 3, update) for update in range(300)]
        assert drawn == [draw(compressors, 3, update) for update in range(300)]
        assert drawn != [draw(compressors, 4, update) for update in range(300)]
        assert all(70 < drawn.count(c) < 130 for c in compressors)

    def test_follows_the_weights(self):
        drawn = [draw([TopK(0.5), TopK(0.7)], 0, update, [1, 3]) for update in range(400)]
        assert 270 < drawn.count(TopK(0.7)) < 330
        assert all(draw([TopK(0.5), TopK(0.7)], 0, u, [0, 1]) == TopK(0.7) for u in range(20))
