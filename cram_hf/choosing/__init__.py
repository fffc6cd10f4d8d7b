"""How much a model can be pruned, and where: a search for the highest sparsity, and a budget spread over layers.

A sparsity that is tried is a whole number of 1 / `STEPS`; scores are of a `SUBSET` of the examples or of `ALL`. Layers
are measured alone at `SPARSITIES`, and a `Point` of such a curve is how many weights go and what that costs.
"""

from .bisection import highest, step_down
from .search import ALL, STEPS, SUBSET, Answer, Budget, Search, is_lower_better
from .sensitivity import SPARSITIES, allocation, output_shift, sensitivities
from .spread import Point, spread

__all__ = [
    "ALL",
    "SPARSITIES",
    "STEPS",
    "SUBSET",
    "Answer",
    "Budget",
    "Point",
    "Search",
    "allocation",
    "highest",
    "is_lower_better",
    "output_shift",
    "sensitivities",
    "spread",
    "step_down",
]
