"""Scores of a masked language model, exact over the whole set: perplexity, accuracy and loss of the masked tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import EvalPrediction


def reduce_logits(logits: Any, labels: Tensor) -> Tensor:
    """
    Returns (rows, 3) numbers of a batch instead of its logits, which would fill the memory.

    They are the sum of the masked tokens' negative log-likelihoods, how many of them have the highest logit, and how
    many there are.

    Args:
        logits (`Tensor` or `tuple`): (rows, length, vocabulary), or a tuple that begins with them.
        labels (`Tensor`): (rows, length), -100 where a token was not masked.
    """
    scores = logits[0] if isinstance(logits, tuple) else logits
    masked = labels != -100
    chosen, wanted = scores[masked].float(), labels[masked]
    found = torch.zeros(3, *labels.shape, device=chosen.device)
    found[0, masked] = cross_entropy(chosen, wanted, reduction="none")
    found[1, masked] = (chosen.argmax(-1) == wanted).float()
    found[2] = masked
    return found.sum(-1).T.contiguous()


@dataclass(frozen=True)
class MaskedScorer:
    """
    Scores the numbers of `reduce_logits` over a set.

    Args:
        rows (`int`): rows of the set.
        masked (`int`): masked tokens of the set.
    """

    rows: int
    masked: int

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """
        Returns `perplexity`, `accuracy` in [0, 1] and `loss`, the natural logarithm of the perplexity.

        A perplexity too large for a float is infinite. `loss` takes the place of the Trainer's, a mean of the batches'
        means, which changes with the batch size.

        Raises:
            ValueError: if the predictions are not of this set.
        """
        numbers = np.asarray(prediction.predictions, np.float64)
        loss, hits, masked = numbers.sum(0)
        if (len(numbers), masked) != (self.rows, self.masked):
            raise ValueError(
                f"there are predictions for {masked:.0f} masked tokens in {len(numbers)} rows, but the set has "
                f"{self.masked} in {self.rows}; predict the rows of this set, each once"
            )
        loss /= masked
        return {"perplexity": _exp(loss), "accuracy": float(hits / masked), "loss": float(loss)}


def _exp(value: float) -> float:
    """Returns the exponential, infinite where a float ends."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
