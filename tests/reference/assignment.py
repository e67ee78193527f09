"""The linear assignment problem by trying every order."""

from __future__ import annotations

import itertools


def literal_assign(costs: list[list[float]]) -> tuple[float, tuple[int, ...]]:
    """The least sum, and an order that has it."""
    orders = itertools.permutations(range(len(costs)))
    return min((sum(row[j] for row, j in zip(costs, order)), order) for order in orders)
