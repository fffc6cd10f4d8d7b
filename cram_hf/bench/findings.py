"""What a bench says in words: a sentence for each engine, and whether pruning beats the fastest dense engine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

NOISE = 0.03
"""A median ratio this near to 1 is no difference, however many rounds agree: two copies of a model may differ so."""
CHANCE = 0.01
"""How often a difference may be called one where there is none."""
LEAST_ROUNDS = 8
"""Fewer rounds cannot show a difference at `CHANCE`, even if all agree: 2 / 2^8 is below it, 2 / 2^7 is not."""

Row = Mapping[str, Any]


def verdict(ratio: Mapping[str, float]) -> str:
    """Returns `faster`, `slower`, or `same` where that is within the noise.

    It is within the noise if the median is nearer to 1 than `NOISE`, or if so many of `rounds` fair coins would show
    one side as seldom as `faster_rounds` or less with a chance of `CHANCE` or more (the sign test, both sides).

    Args:
        ratio: `median` of pruned / dense over the rounds, `rounds`, and `faster_rounds`, those where it was below 1.
    """
    rounds = int(ratio["rounds"])
    fewer = min(int(ratio["faster_rounds"]), rounds - int(ratio["faster_rounds"]))
    chance = 2 * sum(math.comb(rounds, i) for i in range(fewer + 1)) / 2**rounds
    if chance >= CHANCE or abs(ratio["median"] - 1) < NOISE:
        return "same"
    return "faster" if ratio["median"] < 1 else "slower"


def sentences(rows: Sequence[Row], skips_zeros: Mapping[str, bool]) -> list[str]:
    """Returns a sentence for each engine of `rows`, in their order, and one on the fastest dense engine if it matters.

    Args:
        rows: as `measure_cell` returns them.
        skips_zeros: engine -> whether it has code that leaves zeros out.
    """
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    told = [
        f"{name}: {_sentence([row for row in rows if row['engine'] == name], skips_zeros[name])}" for name in engines
    ]
    return told + _against_fastest_dense(rows)


def _sentence(rows: Sequence[Row], skips_zeros: bool) -> str:
    compared = [row for row in rows if "ratio" in row]
    if not compared:
        reason = next((row[key] for row in rows for key in ("error", "skipped") if key in row), None)
        return f"not compared; {reason}." if reason else "nothing to compare with; give compressions with --to."
    return _compared(compared, skips_zeros) + "".join(
        f" Not for {row['spec']}: {row['skipped']}."
        for row in {row["spec"]: row for row in rows if "skipped" in row}.values()
    )


def _compared(compared: Sequence[Row], skips_zeros: bool) -> str:
    by_verdict = {word: [row for row in compared if verdict(row["ratio"]) == word] for word in ("faster", "slower")}
    faster, slower, total = by_verdict["faster"], by_verdict["slower"], len(compared)
    if not faster and not slower:
        why = "" if skips_zeros else ": this engine multiplies zeros like other numbers"
        return f"sparsity brings nothing; pruned takes {_span(compared)} of dense's time, within the noise{why}."
    if not faster:
        return (
            f"sparsity costs time in {len(slower)} of {total} comparisons; pruned takes {_span(compared)} of dense's."
        )
    best = min(faster, key=lambda row: row["ratio"]["median"])
    lost = f", slower in {len(slower)}" if slower else ""
    doubt = "" if skips_zeros else "; it does not skip zeros, so look for noise first: more --rounds"
    return (
        f"pruned is faster in {len(faster)} of {total} comparisons{lost}, at best {best['ratio']['median']:.2f} of "
        f"dense's time ({best['spec']}, {place(best)}){doubt}."
    )


def place(row: Row) -> str:
    """Returns the shape of a row in words."""
    threads = row["threads"]
    return f"batch {row['batch_size']}, {row['seq_length']} tokens, {threads} thread{'s' * (threads > 1)}"


def _span(rows: Sequence[Row]) -> str:
    least, most = (pick(row["ratio"]["median"] for row in rows) for pick in (min, max))
    return f"{least:.2f}" if f"{least:.2f}" == f"{most:.2f}" else f"{least:.2f} to {most:.2f}"


def _against_fastest_dense(rows: Sequence[Row]) -> list[str]:
    """A sparse engine is worth its trouble only where it beats the fastest dense one, by more than noise."""
    as_is = rows[0]["spec"] if rows else ""
    places = {place(row) for row in rows if "ratio" in row and verdict(row["ratio"]) == "faster"}
    won = 0
    for where in places:
        here = [row for row in rows if place(row) == where and "milliseconds" in row]
        dense = min(row["milliseconds"]["median"] for row in here if row["spec"] == as_is)
        gained = [row for row in here if "ratio" in row and verdict(row["ratio"]) == "faster"]
        won += any(row["milliseconds"]["median"] < (1 - NOISE) * dense for row in gained)
    if not places:
        return []
    return [
        f"Against the fastest of these engines for the dense model, a pruned one is faster in {won} of the "
        f"{len(places)} shapes where pruning helps an engine."
    ]
