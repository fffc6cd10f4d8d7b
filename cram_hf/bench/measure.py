"""Measures one engine at one shape: dense and pruned take turns, and every output is compared with PyTorch's."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .engines import Engine, Run, Subject
from .inputs import Inputs, Logits, example, padded
from .sparse_layers import UnsuitableError

logger = logging.getLogger(__name__)

TURN_SECONDS = 0.05
"""A turn is as many calls as fill this time, so that the clock and the scheduler weigh little."""
WARM_UP_CALLS = 3


class Cell(NamedTuple):
    """One place of the grid."""

    batch_size: int
    seq_length: int
    threads: int


def measure_cell(
    engine: Engine, subjects: Sequence[Subject], cell: Cell, rounds: int, seed: int
) -> list[dict[str, Any]]:
    """Returns a row for each subject, the first of which is the one the others are compared with.

    Times are in milliseconds a batch. A subject that the engine is not for, that it fails on, or whose logits are
    wrong has no times: its row says why under `skipped` or `error`.
    """
    inputs = example(subjects[0].model, cell.batch_size, cell.seq_length, seed)
    rows = [{"engine": engine.name, "spec": subject.spec, **cell._asdict()} for subject in subjects]
    calls: dict[int, Callable[[], Any]] = {}
    with thread_count(cell.threads):
        for i, (subject, row) in enumerate(zip(subjects, rows, strict=True)):
            run = _checked(engine, subject, inputs, row, is_dense=i == 0)
            if run is not None:
                calls[i] = partial(run, inputs)
        times = interleaved(calls, rounds)
    if engine.name == "compile":
        torch.compiler.reset()  # the next shape would count as the same function compiled once more, up to a limit
    for i, values in times.items():
        rows[i]["milliseconds"] = quartiles([1000 * value for value in values])
        rows[i]["sequences_per_second"] = cell.batch_size / statistics.median(values)
        if i > 0 and 0 in times:
            rows[i]["ratio"] = compared(values, times[0])
    return rows


def _checked(engine: Engine, subject: Subject, inputs: Inputs, row: dict[str, Any], is_dense: bool) -> Run | None:
    """Returns what runs the subject, warmed up, if its logits are right; `row` gets the difference or the reason."""
    make = engine.dense if is_dense and engine.dense else engine.make
    began = time.perf_counter()
    try:
        run = make(subject, inputs)
        for _ in range(WARM_UP_CALLS):
            run(inputs)
        row["prepare_seconds"] = round(time.perf_counter() - began, 2)
        check = padded(subject.model, inputs)
        found = run(check)
    except UnsuitableError as reason:
        row["skipped"] = str(reason)
        return None
    except Exception as error:  # of a library that is not ours: any kind; the other rows go on
        logger.debug("%s, %s", engine.name, subject.spec, exc_info=True)
        row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return None
    with torch.inference_mode():
        expected = Logits(subject.model)(**check)
    allowed = engine.allowed * max(1.0, *(float(t.abs().max()) for t in expected))
    off = difference(found, expected)
    row["max_difference"] = off if math.isfinite(off) else None
    if not off <= allowed:
        row["error"] = f"wrong output: differs by {off:.3g} from PyTorch, {allowed:.3g} is allowed"
        return None
    return run


def difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Returns the largest absolute difference; infinite where shapes or counts differ, NaN where a value is NaN."""
    if [tensor.shape for tensor in found] != [tensor.shape for tensor in expected]:
        return math.inf
    return max(
        (float((own.double() - other.double()).abs().max()) for own, other in zip(found, expected, strict=True)),
        key=lambda value: (math.isnan(value), value),
    )


def interleaved(calls: Mapping[int, Callable[[], Any]], rounds: int) -> dict[int, list[float]]:
    """Returns the seconds of a call in each round, by key.

    In a round each has one turn, in an order that moves on by one each round, so that what the machine does meanwhile
    meets all of them. A turn is one call, or as many as fill `TURN_SECONDS`.
    """
    repeats = {key: max(1, math.ceil(TURN_SECONDS / max(seconds(call), 1e-6))) for key, call in calls.items()}
    times: dict[int, list[float]] = {key: [] for key in calls}
    for i in range(rounds if calls else 0):
        order = list(calls)
        first = i % len(order)
        for key in order[first:] + order[:first]:
            times[key].append(seconds(calls[key], repeats[key]))
    return times


def seconds(call: Callable[[], Any], repeats: int = 1) -> float:
    """Returns the wall time of one call, the mean of `repeats` calls in a row."""
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - began) / repeats


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Returns `median`, `q1` and `q3` (inclusive method: the smallest value is the 0 % quantile); of one, itself."""
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"median": median, "q1": q1, "q3": q3}


def compared(pruned: Sequence[float], dense: Sequence[float]) -> dict[str, float]:
    """Returns the quartiles of pruned / dense over the rounds, their number, and in how many pruned was faster."""
    ratios = [own / other for own, other in zip(pruned, dense, strict=True)]
    return {**quartiles(ratios), "rounds": len(ratios), "faster_rounds": sum(ratio < 1 for ratio in ratios)}


@contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """Sets PyTorch's number of threads inside the block, and puts the former number back."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
