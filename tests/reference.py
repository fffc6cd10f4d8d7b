"""The method as the paper writes it, literally and slowly: the oracle of the fast path.

Nothing here works in place or relies on `.grad`: every quantity of Peste et al. (ICLR 2023), section 3, is a tensor of
its own, gradients come from `autograd.grad` and the loss at another point from `functional_call`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

Point = dict[str, Tensor]


def loss_at(model: nn.Module, w: Point, batch: dict[str, Tensor]) -> Tensor:
    return functional_call(model, w, kwargs=batch, strict=False).loss


def gradient(model: nn.Module, w: Point, batch: dict[str, Tensor]) -> Point:
    leaves = {name: value.detach().clone().requires_grad_() for name, value in w.items()}
    grads = torch.autograd.grad(loss_at(model, leaves, batch), list(leaves.values()), allow_unused=True)
    return {name: torch.zeros_like(w[name]) if g is None else g for name, g in zip(leaves, grads, strict=True)}


def top_k(w: Point, sparsity_count: int) -> Point:
    """M of global Top-K by a full sort: the `sparsity_count` smallest |w| go; of equals the later index goes first."""
    flat = torch.cat([value.flatten() for value in w.values()]).abs()
    order = sorted(range(len(flat)), key=lambda i: (float(flat[i]), -i))
    mask = torch.ones(len(flat), dtype=torch.bool)
    mask[order[:sparsity_count]] = False
    sizes = [value.numel() for value in w.values()]
    return {name: m.view_as(w[name]) for name, m in zip(w, mask.split(sizes), strict=True)}


def cram_gradient(
    model: nn.Module,
    batch: dict[str, Tensor],
    compressible: list[str],
    mask_of: Callable[[Point], Point],
    *,
    rho: float,
    plus: bool,
    masked: bool = True,
    perturb: str = "all",
    normalize_grad: bool = False,
) -> Point:
    """The gradient that the base optimizer sees in one CrAM (or CrAM+) update."""
    w = {name: p.detach().clone() for name, p in model.named_parameters()}
    g = gradient(model, w, batch)
    moved = list(w) if perturb == "all" else compressible
    norm = torch.sqrt(sum((g[name] ** 2).sum() for name in moved)) if normalize_grad else 1.0
    ascended = {name: w[name] + rho * g[name] / norm if name in moved else w[name] for name in w}
    mask = mask_of({name: ascended[name] for name in compressible})
    w_prime = {name: ascended[name] * mask[name] if name in mask else ascended[name] for name in w}
    g_prime = gradient(model, w_prime, batch)
    if masked:
        g_prime = {name: g_prime[name] * mask[name] if name in mask else g_prime[name] for name in w}
    return {name: g[name] + g_prime[name] if plus else g_prime[name] for name in w}
