"""What is random in an update: the compressor that is drawn, and dropout, which both passes can share."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from .compressors import Compressor


def draw(
    compressors: Sequence[Compressor], seed: int, update: int, probabilities: Sequence[float] | None = None
) -> Compressor:
    """Returns the compressor of one update: a pure function of (seed, update); resumed runs and all ranks agree.

    Args:
        compressors: one or more.
        seed: of the run.
        update: number of the optimizer update, from 0.
        probabilities: relative weight of each compressor; uniform if not given.
    """
    return random.Random(f"cram:{seed}:{update}").choices(compressors, probabilities)[0]


def rng_state(device: torch.device) -> list[Tensor]:
    """The states of torch's random generators that dropout draws from: the CPU's and, if it is a GPU, `device`'s."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def set_rng_state(states: Sequence[Tensor], device: torch.device) -> None:
    """Puts back what `rng_state` returned."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


@contextmanager
def replayed(states: Sequence[Tensor], device: torch.device, active: bool = True) -> Iterator[None]:
    """Inside the block the random numbers restart from `states`; afterwards they go on as if it had drawn none."""
    if not active:
        yield
        return
    after = rng_state(device)
    set_rng_state(states, device)
    try:
        yield
    finally:
        set_rng_state(after, device)
