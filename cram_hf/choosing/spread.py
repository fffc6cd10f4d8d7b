"""A budget of zeros spread over layers so that the sum of what each layer costs is least."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

Point = tuple[int, float]
"""How many weights of a layer go, and what that alone costs."""


def spread(curves: Mapping[str, Sequence[Point]], zeros: int) -> dict[str, int]:
    """Returns name -> how many weights go, `zeros` in all, at the least sum of the layers' costs.

    Between measured points a layer's cost is interpolated along the lower convex hull of its points. On hulls the
    greedy choice is exact: cut every hull at its corners, and take the pieces by rising cost for each weight until the
    budget is spent, the last one in part. A layer's own pieces come in their order, since a hull only gets steeper,
    and no exchange of zeros between layers can lower the sum. No allocation beats that sum on the points' own
    (straight-line) interpolation either, which lies on or above the hull; and all layers but the one whose piece is
    cut end at measured corners, where both agree. Of equally dear pieces those of the earlier layer go first.

    Args:
        curves (`Mapping[str, Sequence[Point]]`): each layer's points, from (0, 0.0) to all of its weights, rising.
        zeros (`int`): from 0 to the sum of all weights.

    Raises:
        ValueError: a cost is not finite, points are missing at an end or do not rise, or `zeros` is out of range.
    """
    _check(curves, zeros)
    pieces = [
        ((cost - before) / (count - start), order, start, count - start, name)
        for order, (name, points) in enumerate(curves.items())
        for (start, before), (count, cost) in pairwise(hull(points))
    ]
    result = dict.fromkeys(curves, 0)
    for _, _, _, length, name in sorted(pieces):
        taken = min(length, zeros)
        result[name] += taken
        zeros -= taken
    return result


def hull(points: Sequence[Point]) -> list[Point]:
    """Returns the corners of the lower convex hull of points with rising counts (Andrew's monotone chain)."""
    corners: list[Point] = []
    for point in points:
        while len(corners) > 1 and _slope(corners[-2], corners[-1]) >= _slope(corners[-1], point):
            corners.pop()
        corners.append(point)
    return corners


def _slope(left: Point, right: Point) -> float:
    return (right[1] - left[1]) / (right[0] - left[0])


def _check(curves: Mapping[str, Sequence[Point]], zeros: int) -> None:
    for name, points in curves.items():
        if not all(math.isfinite(price) for _, price in points):
            raise ValueError(f"{name}: a cost is not finite, so the layer cannot be compared with others.")
        if not points or points[0] != (0, 0.0) or any(a[0] >= b[0] for a, b in pairwise(points)):
            raise ValueError(f"{name}: points start at (0, 0.0) and their counts rise, but these are {list(points)}.")
    total = sum(points[-1][0] for points in curves.values())
    if not 0 <= zeros <= total:
        raise ValueError(f"{zeros} zeros cannot be spread over {total} weights.")
