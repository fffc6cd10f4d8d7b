"""The method's figures between two logs: losses at the compressed point, draws, step length, mask changes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .compressors import Compressor
from .core import Point

if TYPE_CHECKING:
    from accelerate import Accelerator

STRIDE = 61  # masks are compared on every 61st weight: a sample of 1.6 %, prime so that it strides across rows


class Monitor:
    """Collects what happened in each update and averages it when Trainer logs.

    Keys of a log: `loss_compressed`, the mean loss of the compressed passes, and `loss_compressed_<key>` for each
    compressor drawn; `drawn_<key>`, the share of updates it was drawn for; `relative_step`, the mean of ||rho g|| over
    ||w|| at the log; `mask_change`, the mean share of mask entries that differ from the last mask of the same
    compressor (estimated on a sample; absent until a compressor is drawn twice); `skipped_perturbations`, the number
    of updates whose gradient was not finite, so that nothing was moved.
    """

    def __init__(self) -> None:
        self._samples: dict[str, Tensor] = {}
        self._clear()

    def _clear(self) -> None:
        self._losses: dict[str, list[Tensor]] = {}
        self._steps: list[float] = []
        self._changes: list[Tensor] = []

    def update(self, compressor: Compressor, point: Point, loss: Tensor) -> None:
        """Notes one update; keeps a sample of the masks and nothing else of `point`."""
        self._losses.setdefault(compressor.key, []).append(loss)
        self._steps.append(point.step)
        if point.masks:
            sample = torch.cat([mask.flatten()[::STRIDE] for mask in point.masks.values()])
            if compressor.key in self._samples:
                self._changes.append((sample != self._samples[compressor.key]).float().mean())
            self._samples[compressor.key] = sample

    def flush(self, model: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        """Returns the averages since the last call, over all ranks, and starts anew."""
        updates = len(self._steps)
        if not updates:
            return {}
        finite = [step for step in self._steps if math.isfinite(step)]
        logs = {"skipped_perturbations": float(updates - len(finite))}
        means = {key: torch.stack(losses).mean() for key, losses in self._losses.items()}
        total = sum(mean * len(self._losses[key]) for key, mean in means.items()) / updates
        for name, value in {"": total, **{f"_{key}": mean for key, mean in means.items()}}.items():
            logs[f"loss_compressed{name}"] = float(accelerator.reduce(value, "mean"))
        logs |= {f"drawn_{key}": len(losses) / updates for key, losses in self._losses.items()}
        if finite:
            norm = torch.linalg.vector_norm(torch.stack([p.detach().float().norm() for p in model.parameters()]))
            logs["relative_step"] = sum(finite) / len(finite) / max(float(norm), 1e-12)
        if self._changes:
            logs["mask_change"] = float(torch.stack(self._changes).mean())
        self._clear()
        return logs
