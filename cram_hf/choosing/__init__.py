"""How much a model can be pruned, and where: a search for the highest sparsity, and a budget spread over layers."""

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
