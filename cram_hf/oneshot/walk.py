"""Runs a model block by block: each repeated block is fed what the block before it gave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Batch = Mapping[str, Tensor]


class _Stop(Exception):
    """Ends a forward pass early, with what the block gave."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


class Walk:
    """The repeated blocks of a model in the order of its forward pass, and what the last finished one gave.

    To run block k the model's own forward pass is run: blocks before k hand on what was kept of block k - 1, and the
    pass ends when block k is done. So every block gets the masks and positions that the model makes for it, each block
    is computed once per `run`, and no more than one block's output for each batch is held.

    Args:
        model: in evaluation mode; see `evaluating`. Nothing of it is changed between calls.
        weights: name -> parameter; what is to be compressed. The blocks are the members of the outermost
            `nn.ModuleList`s that hold them.
        batches: the arguments of the forward pass, e.g. `input_ids` and `attention_mask` (batch, tokens). Where the
            latter is 0 there is padding, which no statistic counts.

    Raises:
        ValueError: there is no batch, a weight lies outside repeated blocks, blocks lie in several lists, or the model
            does not call each block once.
    """

    def __init__(self, model: nn.Module, weights: Mapping[str, Tensor], batches: Sequence[Batch]) -> None:
        if not batches:
            raise ValueError("There is no text to calibrate on: give at least one batch.")
        self.model, self.batches = model, batches
        self.blocks = self._in_order(repeated_blocks(model, weights))
        self._device = next(iter(weights.values())).device
        self._given: list[Any] = [None] * len(batches)
        self._position = 0
        self.mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.blocks)

    def run(self, index: int) -> Any:
        """Runs the current block on one batch and returns what it gives; hooks on its modules fire.

        Meanwhile `mask` is True at the batch's real tokens, (batch, tokens), or `None` if all are real.
        """
        current = self.blocks[self._position][1]
        batch = {name: value.to(self._device) for name, value in self.batches[index].items()}
        self.mask = token_mask(batch)
        with ExitStack() as stack, torch.no_grad():
            for _, block in self.blocks[: self._position]:
                stack.enter_context(_replaced(block, self._given[index]))
            handle = current.register_forward_hook(_stop)
            stack.callback(handle.remove)
            try:
                self.model(**batch)
            except _Stop as stop:
                return stop.output
        raise ValueError(f"The model did not call {self.blocks[self._position][0]} for batch {index}.")

    def run_all(self) -> None:
        """Runs the current block on all batches, for the sake of the hooks on its modules."""
        for index in range(len(self.batches)):
            self.run(index)

    def advance(self) -> None:
        """Keeps what the current block, as it is now, gives for each batch, and goes on to the next block."""
        for index in range(len(self.batches)):
            self._given[index] = self.run(index)
        self._position += 1

    @property
    def name(self) -> str:
        """The current block's name, e.g. `bert.encoder.layer.0`."""
        return self.blocks[self._position][0]

    def _in_order(self, blocks: dict[str, nn.Module]) -> list[tuple[str, nn.Module]]:
        calls: list[str] = []
        with ExitStack() as stack, torch.no_grad():
            for name, block in blocks.items():
                handle = block.register_forward_pre_hook(lambda module, args, name=name: calls.append(name))
                stack.callback(handle.remove)
            device = next(self.model.parameters()).device
            self.model(**{name: value.to(device) for name, value in self.batches[0].items()})
        odd = [name for name in blocks if calls.count(name) != 1]
        if odd:
            raise ValueError(
                f"{odd[0]} is called {calls.count(odd[0])} times in a forward pass: blocks that are shared or "
                "left out cannot be pruned one after the other. Take --method magnitude."
            )
        return [(name, blocks[name]) for name in calls]


def repeated_blocks(model: nn.Module, weights: Iterable[str]) -> dict[str, nn.Module]:
    """Returns the members of the outermost `nn.ModuleList`s that hold `weights`, name -> module.

    Raises:
        ValueError: a weight lies in none, or they lie in several lists, as in an encoder-decoder; all are named.
    """
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    blocks: dict[str, nn.Module] = {}
    homes, outside = set(), []
    for name in weights:
        home = min((f"{part}." for part in lists if name.startswith(f"{part}.")), key=len, default=None)
        if home is None:
            outside.append(name)
            continue
        homes.add(home)
        block = home + name.removeprefix(home).partition(".")[0]
        blocks[block] = model.get_submodule(block)
    if outside:
        raise ValueError(
            f"{', '.join(outside)}: outside the model's repeated blocks (nn.ModuleList), where pruning layer by layer "
            "does not reach. Leave them out with --compress_exclude, or take --method magnitude."
        )
    if len(homes) > 1:
        raise ValueError(
            f"The blocks lie in {len(homes)} lists, {', '.join(sorted(home[:-1] for home in homes))}: pruning layer "
            "by layer takes one. Choose it with --compress_include, or take --method magnitude."
        )
    return blocks


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Puts the model into evaluation mode inside the block, and each module back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def token_mask(batch: Batch) -> Tensor | None:
    """Returns where a batch has real tokens, (batch, tokens) bool, or `None` if it does not say so."""
    return batch["attention_mask"].bool() if "attention_mask" in batch else None


def real_tokens(values: Tensor, mask: Tensor | None, name: str) -> Tensor:
    """Returns the vectors of the tokens that are no padding, (tokens, width).

    Args:
        values: (batch, tokens, width) or (batch * tokens, width).
        mask: (batch, tokens), True at real tokens; `None` counts all.
        name: the layer, for the message.

    Raises:
        ValueError: the shape does not say which vector belongs to which token.
    """
    rows = values.reshape(-1, values.shape[-1])
    if mask is None:
        return rows
    if values.shape[:-1] not in (mask.shape, mask.flatten().shape):
        raise ValueError(
            f"{name} has values of shape {tuple(values.shape)}, which do not fit {tuple(mask.shape)} tokens: which of "
            "them are padding is not known. Leave the layer out with --compress_exclude."
        )
    return rows[mask.flatten()]


def _stop(module: nn.Module, args: Any, output: Any) -> None:
    raise _Stop(output)


@contextmanager
def _replaced(block: nn.Module, output: Any) -> Iterator[None]:
    """Makes the block give `output` without computing anything."""
    block.forward = lambda *args, **kwargs: output
    try:
        yield
    finally:
        del block.forward
