"""CrAM, the method: one optimizer update, in the notation of the paper (Peste et al., ICLR 2023, section 3).

    g  = grad L(w)                 dense pass
    w' = C(w + rho g)              the compressed point; M is the mask of what C keeps
    g' = M * grad L(w')            compressed pass on the same batch
    CrAM updates w with g', CrAM+ with g + g'

The weights are moved to w' and back in place, never rebound, and come back bit for bit. CrAM+ needs no code of its
own: gradients add up when nobody clears them between the two passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from .compressors import Compressor
from .rng import replayed, rng_state
from .swap import swapped

Perturb = Literal["all", "compressible"]


class Point(NamedTuple):
    """The compressed point w' = C(w + rho g).

    Args:
        values: name -> w', new tensors, for every parameter that differs from w.
        rows: name -> the only rows that `values` holds, ascending, of a matrix that is not compressed and has a
            gradient other than zero in fewer than half of them: an embedding.
        masks: name -> bool, True where C keeps the weight; no entry for what is not pruned.
        step: the length of rho g over all moved parameters, before compression; NaN or infinite if g was, and then
            nothing was moved and w' = C(w).
    """

    values: dict[str, Tensor]
    rows: dict[str, Tensor]
    masks: dict[str, Tensor]
    step: float


@torch.no_grad()
def cram_point(
    parameters: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    compressor: Compressor,
    rho: float,
    *,
    grad_scale: float = 1.0,
    normalize_grad: bool = False,
) -> Point:
    """Returns the compressed point from the gradients in `.grad`; mutates nothing.

    `swapped(parameters, point.values, point.rows)` puts it into the model.

    Args:
        parameters: what the ascent moves, name -> w with the dense gradient g in `.grad`. One without gradient stays.
        weights: the compressible weights, under the same names where they are among `parameters`.
        compressor: C. `TopK(0)` is the identity.
        rho: size of the ascent step, 0 for none. The gradient is taken as it is (CrAM) unless `normalize_grad`.
        grad_scale: what a gradient scaler multiplied g by.
        normalize_grad: divides g by its norm over all `parameters` (SAM).

    Raises:
        ValueError: a weight is NaN, or has a shape that C cannot take; the message names it.
    """
    moved = {name: w for name, w in parameters.items() if w.grad is not None}
    norm = _norm([w.grad for w in moved.values() if w.grad is not None]) / grad_scale
    rate = rho / norm if normalize_grad and norm else rho
    if not (rho and math.isfinite(norm)):
        moved = {}
    values = {name: w.detach().clone() for name, w in weights.items() if name not in moved}
    rows = {name: found for name, w in moved.items() if name not in weights and (found := _few_rows(w)) is not None}
    for name, w in moved.items():
        where = rows.get(name, ...)  # all of them
        values[name] = torch.add(w[where], w.grad[where], alpha=rate / grad_scale)  # type: ignore[index]
    masks = compressor.apply_({name: values[name] for name in weights})
    return Point(values, rows, masks, rate * norm)


@contextmanager
def compressed_pass(
    model: nn.Module, parameters: Mapping[str, Tensor], weights: Mapping[str, Tensor], point: Point, *, masked: bool
) -> Iterator[None]:
    """The surroundings of the compressed pass: the model stands at w', and what it must not leave behind is put back.

    Inside the block, gradients that reach a pruned weight are multiplied by its mask before they are accumulated
    (`masked`; the straight-through estimator otherwise). Afterwards the parameters and the running statistics of
    normalisation layers are as before, bit for bit, and the hooks are gone, also when the block raises.
    """
    statistics = [b for m in model.modules() if isinstance(m, _NormBase) for b in m.buffers(recurse=False)]
    kept = [b.clone() for b in statistics]
    with ExitStack() as stack:
        if masked:
            for name, mask in point.masks.items():
                if weights[name].requires_grad:
                    handle = weights[name].register_hook(lambda grad, mask=mask: grad * mask)
                    stack.callback(handle.remove)
        stack.enter_context(swapped({**parameters, **weights}, point.values, point.rows))
        try:
            yield
        finally:
            for buffer, value in zip(statistics, kept, strict=True):
                buffer.copy_(value)


def cram_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    closure: Callable[[], Tensor],
    weights: Mapping[str, Tensor],
    compressor: Compressor,
    *,
    rho: float,
    plus: bool = True,
    masked: bool = True,
    perturb: Perturb = "all",
    normalize_grad: bool = False,
    same_dropout: bool = True,
) -> Tensor:
    """Makes one whole CrAM update of a plain training loop.

    >>> weights = compressible_weights(model)
    >>> loss = cram_step(model, optimizer, closure, weights, TopK(0.7), rho=0.05)

    Args:
        model: the module; its parameters are updated. The compressed pass leaves the running statistics of its
            normalisation layers alone.
        optimizer: any `torch.optim` optimizer but LBFGS, which calls its closure itself. It steps once, at w.
        closure: computes the loss of the batch, calls `backward()` and returns the loss. Called twice; it must not
            clear gradients or step. It may loop over micro-batches. A gradient scaler has no place in it: use
            `CrAMTrainer` for fp16.
        weights: the compressible weights, from `compressible_weights(model)`.
        compressor: C for this update, e.g. from `draw`.
        rho: size of the ascent step; 0 is allowed.
        plus: CrAM+ (update with g + g') or CrAM (g').
        masked: mask g' on the pruned weights, or pass it straight through.
        perturb: whether the ascent moves all parameters with a gradient (the paper) or the compressible ones.
        normalize_grad: divide g by its norm in the ascent. With `TopK(0)` and `plus=False` this is SAM.
        same_dropout: replay the random numbers of the dense pass in the compressed one (CPU and CUDA generators).

    Returns:
        The loss at w, as the closure returned it.

    Raises:
        TypeError: the optimizer is LBFGS.
        ValueError: there are no weights, the closure set gradients to None, or a weight cannot be compressed.
    """
    if isinstance(optimizer, torch.optim.LBFGS):
        raise TypeError(
            "LBFGS evaluates its closure itself and cannot make a CrAM step: use another torch.optim optimizer."
        )
    if not weights:
        raise ValueError("There are no weights to compress: give those of compressible_weights(model).")
    optimizer.zero_grad()
    model.zero_grad()  # also what the optimizer does not hold: its gradient takes part in the ascent
    device = next(iter(weights.values())).device
    random_state = rng_state(device)
    loss = closure()
    parameters = ascending(model, weights, perturb)
    point = cram_point(parameters, weights, compressor, rho, normalize_grad=normalize_grad)
    if not plus:
        model.zero_grad()
    dense = {name: w.grad for name, w in parameters.items() if w.grad is not None}
    with (
        compressed_pass(model, parameters, weights, point, masked=masked),
        replayed(random_state, device, same_dropout),
    ):
        closure()
    if any(parameters[name].grad is not grad for name, grad in dense.items()):
        raise ValueError(
            "The closure cleared the gradients: leave zero_grad() out of it, cram_step calls it once an update."
        )
    optimizer.step()
    return loss


def ascending(model: nn.Module, weights: Mapping[str, Tensor], perturb: Perturb) -> dict[str, Tensor]:
    """Returns what the ascent moves: the compressible weights under their names and, for "all", every other parameter.

    Parameters are told apart by identity, since wrappers (`torch.compile`, DDP) and submodules call them differently.
    """
    known = {id(w) for w in weights.values()} if perturb == "all" else set()
    others = {n: p for n, p in model.named_parameters() if id(p) not in known} if known else {}
    return {**{f"{n} (model)" if n in weights else n: p for n, p in others.items()}, **weights}


def _norm(tensors: list[Tensor]) -> float:
    """The length of all tensors together, 0 for none; taken in float32 at least."""
    if not tensors:
        return 0.0
    norms = [torch.linalg.vector_norm(t, dtype=torch.promote_types(t.dtype, torch.float32)) for t in tensors]
    return float(torch.linalg.vector_norm(torch.stack([n.to(norms[0].device) for n in norms])))


def _few_rows(w: Tensor) -> Tensor | None:
    """The rows of a matrix whose gradient is not zero; `None` if they are half of them or more, or it is no matrix."""
    if w.dim() != 2 or not w.numel():
        return None
    there = w.grad.any(1).nonzero()[:, 0]  # type: ignore[union-attr]
    return there if 2 * len(there) < len(w) else None
