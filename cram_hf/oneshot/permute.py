"""Reorders channels inside a block so that N:M pruning keeps larger weights; the dense model computes the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice

import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel

from ..compressors import NM

# Layers whose output channels reach the next layer's inputs one by one: (giver, taker, whether heads must stay whole).
PAIRS = (
    ("intermediate.dense", "output.dense", False),  # BERT, RoBERTa, ELECTRA, DeBERTa
    ("attention.self.value", "attention.output.dense", True),
    ("attention.self.value_proj", "attention.output.dense", True),
    ("ffn.lin1", "ffn.lin2", False),  # DistilBERT
    ("attention.v_lin", "attention.out_lin", True),
)


@dataclass(frozen=True)
class Gain:
    """What reordering the inputs of one layer brought: the sum of the magnitudes that N:M keeps, before and after."""

    before: float
    after: float


@torch.no_grad()
def permute_channels_(
    model: nn.Module, weights: Mapping[str, Tensor], pattern: NM, rounds: int = 200
) -> dict[str, Gain]:
    """Reorders the hidden channels of each MLP and, within each head, the values; returns the gain, weight -> `Gain`.

    The rows (and biases) of a giving layer and the columns of the taking layer are reordered alike, which changes
    nothing but the order of additions in what the model computes. Only the taking layers gain: the inputs of all
    others are the residual stream.

    Args:
        model: a BERT-like model, see `PAIRS`. **Mutated.**
        weights: what will be pruned; pairs whose taking layer is not among them are left alone.
        pattern: the N:M pattern.
        rounds: bound on the search, see `best_order`.

    Raises:
        ValueError: the model has no such layers, or a weight does not take the pattern.
    """
    pattern.check(weights)
    gains = {}
    pairs = list(_pairs(model, weights, pattern))
    for name, giver, taker, size in tqdm(pairs, desc="permute", unit="layer", disable=None):
        scores = taker.weight.abs().float()
        parts = scores.split(size, dim=1)
        order = torch.cat([size * i + best_order(part, pattern, rounds) for i, part in enumerate(parts)])
        for parameter in (giver.weight, giver.bias):
            if parameter is not None:
                parameter.copy_(parameter[order])
        taker.weight.copy_(taker.weight[:, order])
        gains[name] = Gain(kept(scores, pattern), kept(scores[:, order], pattern))
    if not gains:
        known = ", ".join(f"{giver} -> {taker}" for giver, taker, _ in PAIRS)
        raise ValueError(
            f"{type(model).__name__} has no channels that can be reordered for free; known are the layers {known}. "
            "Leave out --permute."
        )
    return gains


def best_order(scores: Tensor, pattern: NM, rounds: int) -> Tensor:
    """Returns an order of the columns of `scores` (out, in) under which N:M keeps more, (in,) indices; never less.

    In a round all groups meet in pairs, and each pair swaps the two columns, one of each, that raise the kept sum
    most, if any do. Pairs are drawn up as in a tournament, again and again, until all have met without a swap or after
    `rounds` rounds; most of the gain comes in the first ones. Nothing is random.

    Args:
        scores: not negative, e.g. magnitudes.
        pattern: the N:M pattern; M divides the number of columns.
        rounds: how many rounds at most; each pair of groups has met once after as many rounds as there are groups.
    """
    order = torch.arange(scores.shape[1], device=scores.device).view(-1, pattern.m)
    columns = scores.T.contiguous()
    if pattern.n == pattern.m:
        return order.flatten()
    tournament, idle = list(_tournament(len(order))), 0
    for left, right in islice(cycle(tournament), rounds):
        idle = 0 if _swap_best_(order, left, right, columns, pattern.n) else idle + 1
        if idle == len(tournament):
            break
    return order.flatten()


def kept(scores: Tensor, pattern: NM) -> float:
    """Returns the sum of the scores (out, in) that N:M keeps."""
    return float(scores.unflatten(1, (-1, pattern.m)).topk(pattern.n, dim=-1).values.sum(dtype=torch.float64))


def _tournament(count: int) -> Iterator[tuple[list[int], list[int]]]:
    """Rounds in which all groups meet in pairs; after the last each has met each other once."""
    ring = list(range(count + count % 2))  # with an odd count one sits out, paired with the number `count`
    for _ in range(len(ring) - 1):
        half = len(ring) // 2
        met = [(a, b) for a, b in zip(ring[:half], reversed(ring[half:]), strict=True) if max(a, b) < count]
        yield [a for a, _ in met], [b for _, b in met]
        ring = [ring[0], ring[-1], *ring[1:-1]]


def _swap_best_(order: Tensor, left: list[int], right: list[int], columns: Tensor, n: int) -> bool:
    """Swaps, for each pair of groups, the two columns whose exchange raises the kept sum most; whether any did.

    Args:
        order: (groups, m), indices of columns. **Mutated.**
        left, right: the groups of each pair; no group is in two pairs.
        columns: (in, out), the scores of one column after the other.
        n: how many of a group are kept.
    """
    a, b = columns[order[left]], columns[order[right]]  # (pairs, m, out)
    (base_a, bar_a, now_a), (base_b, bar_b, now_b) = _without_one(a, n), _without_one(b, n)
    # A column that joins a group of which one has left counts if it is above the bar, the n-th largest that stayed.
    after = base_a[:, :, None] + torch.maximum(b[:, None], bar_a[:, :, None]).sum(-1)
    after += base_b[:, None] + torch.maximum(a[:, :, None], bar_b[:, None]).sum(-1)
    gain, best = (after - (now_a + now_b)[:, None, None]).flatten(1).max(1)
    better = (gain > 1e-6 * (now_a + now_b)).nonzero().flatten().tolist()
    groups = order.new_tensor([[left[pair], right[pair]] for pair in better]).view(-1, 2).T
    places = torch.stack([best[better] // order.shape[1], best[better] % order.shape[1]])
    order[groups, places] = order[groups, places].flip(0)
    return bool(better)


def _without_one(group: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """What remains of groups (pairs, m, out) when column i leaves.

    Returns:
        The sum of the n - 1 largest that stay, over all rows (pairs, m); the n-th largest that stays (pairs, m, out);
        and the sum of the n largest of the whole group (pairs,).
    """
    ranked = _descending(group)
    total, last = torch.stack(ranked[:n]).sum(0)[:, None], ranked[n - 1][:, None]
    counted = group >= last
    bar = torch.where(counted, ranked[n][:, None], last)
    return (total - torch.where(counted, group, last)).sum(-1), bar, total.sum((1, 2))


def _descending(group: Tensor) -> list[Tensor]:
    """The members of groups (pairs, m, out) by size, largest first: a network, far faster than sorting so few."""
    members = list(group.unbind(1))
    for end in range(len(members) - 1, 0, -1):
        for i in range(end):
            members[i], members[i + 1] = (
                torch.maximum(members[i], members[i + 1]),
                torch.minimum(members[i], members[i + 1]),
            )
    return members


def _pairs(
    model: nn.Module, weights: Mapping[str, Tensor], pattern: NM
) -> Iterator[tuple[str, nn.Linear, nn.Linear, int]]:
    """Weight name, giving and taking layer, and how many neighbouring channels may be reordered among themselves."""
    modules = dict(model.named_modules())
    for name in weights:
        for giver, taker, by_head in PAIRS:
            home = name.removesuffix(f".{taker}.weight")
            if home == name or f"{home}.{giver}" not in modules:
                continue
            first, second = modules[f"{home}.{giver}"], modules[f"{home}.{taker}"]
            if isinstance(first, nn.Linear) and isinstance(second, nn.Linear):
                size = second.in_features // (_heads(model) if by_head else 1)
                if first.out_features == second.in_features and size % pattern.m == 0:
                    yield name, first, second, size


def _heads(model: nn.Module) -> int:
    assert isinstance(model, PreTrainedModel)  # the names of the layers are those of transformers' models
    return int(model.config.num_attention_heads)
