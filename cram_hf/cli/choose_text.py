"""What `cram-hf choose` tells a person: the answers, what is to be said of them, and what was tried."""

from __future__ import annotations

from typing import Any

from ..choosing import ALL, SUBSET, is_lower_better
from ..table import NO_VALUE, aligned, number, percent
from .flags.choose import ALLOCATED


def text(result: dict[str, Any]) -> str:
    """Returns the budget, a table with a line for each pattern, what is to be said of them, and what was tried."""
    return "\n".join([_budget(result), "", _table(result), "", *_remarks(result), *_tried(result)])


def _budget(result: dict[str, Any]) -> str:
    metric, dense, examples = result["metric"], result["dense"], result["examples"]
    lower = is_lower_better(metric)
    bound = dense[ALL] + (1 if lower else -1) * result["max_drop"]
    sample = f" (tried first on {examples[SUBSET]:,} of them)" if examples[SUBSET] < examples[ALL] else ""
    return (
        f"{result['model']} on {result['task']}: {metric} {dense[ALL]:.4g} dense, and {bound:.4g} or "
        f"{'less' if lower else 'more'} wanted, on {examples[ALL]:,} examples{sample}."
    )


def _table(result: dict[str, Any]) -> str:
    digits = 4 if abs(result["dense"][ALL]) <= 1 else 2
    lines = []
    for answer in result["answers"]:
        found = answer["spec"] is not None
        lines.append(
            [
                answer["pattern"],
                answer["spec"] or "none",
                percent(answer["sparsity"]) if found else NO_VALUE,
                number(answer["score"], digits),
                number(answer["drop"], digits),
            ]
        )
    return aligned(["pattern", "highest within the budget", "sparsity", result["metric"], "drop"], lines, left=2)


def _remarks(result: dict[str, Any]) -> list[str]:
    lines = [f"{answer['pattern']}: {answer['note'].rstrip('.')}." for answer in result["answers"] if answer["note"]]
    if compared := result["comparison"]:
        lines.append(_compared(compared, result["metric"]))
    best = max((a for a in result["answers"] if a["spec"]), key=lambda a: a["sparsity"], default=None)
    if best:
        lines.append(f"To write one: cram-hf prune {result['model']} --to {best['spec']} --out FOLDER")
    return lines


def _compared(compared: dict[str, Any], metric: str) -> str:
    ours, theirs = compared["sparsity"], compared["global_highest"]
    scores = f"{number(compared[ALLOCATED], 4)} against {number(compared['global'], 4)}"
    reach = "" if theirs is None else f"; within the budget it goes to {percent(ours)}, global to {percent(theirs)}"
    verdict = "beats" if compared["beats"] else "does not beat"
    return f"{ALLOCATED} {verdict} global: {metric} {scores} at {percent(ours)} sparsity on the same examples{reach}."


def _tried(result: dict[str, Any]) -> list[str]:
    """One line a pattern: every point that was asked about, in order, and whether it is within the budget."""
    lines = [f"Tried, in steps of {result['step']} (+ within the budget, - not):"]
    for answer in result["answers"]:
        for place in (SUBSET, ALL):
            points = [p for p in result["tried"] if (p["pattern"], p["on"]) == (answer["pattern"], place)]
            words = [f"{p['sparsity']:.2f}{'+' if p['within'] else '-'}" for p in points]
            lines += [f"  {answer['pattern']}, {place}: {' '.join(words)}"] if words else []
    return lines
