"""Which of m places each of m things takes so that the summed cost is least: the linear assignment problem,
exactly, in O(m^3).

Shortest augmenting paths with potentials (Kuhn 1955, Munkres 1957; in this form Jonker and Volgenant 1987).
Row by row: a path of least reduced cost is grown from the new row to a free column, and the matching is
flipped along it.
"""

from __future__ import annotations

import math


def assign(costs: list[list[float]]) -> list[int]:
    """For each row of the square matrix ``costs`` the column that it takes; no two rows take the same one."""
    count = len(costs)
    row_price, column_price = [0.0] * count, [0.0] * (count + 1)
    taken = [-1] * (count + 1)  # column -> row; the last column is where each search begins
    for row in range(count):
        taken[count], column = row, count
        least, before = [math.inf] * count, [count] * count
        done = [False] * (count + 1)
        while taken[column] >= 0:
            done[column] = True
            here = taken[column]
            for other in range(count):
                if not done[other]:
                    cost = costs[here][other] - row_price[here] - column_price[other]
                    if cost < least[other]:
                        least[other], before[other] = cost, column
            nearest = min((j for j in range(count) if not done[j]), key=least.__getitem__)
            step = least[nearest]
            for other in range(count + 1):
                if done[other]:
                    row_price[taken[other]] += step
                    column_price[other] -= step
                elif other < count:
                    least[other] -= step
            column = nearest
        while column != count:
            taken[column], column = taken[before[column]], before[column]
        taken[count] = -1
    places = [0] * count
    for column, row in enumerate(taken[:count]):
        places[row] = column
    return places
