"""One HTML page on a run or several: curve, losses, layers, scores, sizes, times. It sees files, never a model.

Needs the extra `report` (`INSTALL` says what to type): Altair, whose figures become SVG text inside the page, so that
it loads nothing at all.
"""

from .page import INSTALL, Heat, page
from .read import Run, check_together, read_bench, read_run, read_size

__all__ = ["INSTALL", "Heat", "Run", "check_together", "page", "read_bench", "read_run", "read_size"]
