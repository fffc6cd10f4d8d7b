"""The highest step of a ladder that passes a test which is dear to ask."""

from __future__ import annotations

from collections.abc import Callable


def highest(passes: Callable[[int], bool], low: int, high: int) -> int:
    """Returns by bisection a step k with `low <= k < high` that passes while k + 1 does not.

    It takes `low` to pass and `high` not to, and asks about neither; of the steps between it asks about
    ceil(log2(high - low)) at most. Where no step passes above one that fails (a score that only falls with sparsity),
    k is the highest that passes. Otherwise it is the upper end of one of the runs of steps that pass, and there may be
    a higher one: what is returned has passed, or is `low`.

    Raises:
        ValueError: `low` is not below `high`.
    """
    if not low < high:
        raise ValueError(f"low {low} must be below high {high}")
    while high - low > 1:
        middle = (low + high) // 2
        if passes(middle):
            low = middle
        else:
            high = middle
    return low


def step_down(passes: Callable[[int], bool], start: int) -> int:
    """Returns `start` if it passes, else a step below it that passes while the next one does not; 0 if there is none.

    Steps of 1, 2, 4, ... go down until one passes, then bisection goes up again; 0 is never asked about.
    """
    step, failed, width = start, start, 1
    while step > 0 and not passes(step):
        failed, step, width = step, step - width, 2 * width
    return highest(passes, max(step, 0), failed) if step < failed else step
