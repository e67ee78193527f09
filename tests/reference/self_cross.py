"""Self-Cross guidance (arXiv 2411.18936) as loops over single cells; a map is a list of values, ``own`` a
list of such lists.
"""

from __future__ import annotations


def literal_otsu(a: list) -> list:
    """True above the threshold, of all values of ``a``, that leaves the most variance between the two sides;
    everywhere where all are equal.
    """
    if max(a) == min(a):
        return [True] * len(a)
    best, least = min(a), -1.0
    for threshold in sorted(set(a))[:-1]:
        low, high = [v for v in a if v <= threshold], [v for v in a if v > threshold]
        between = len(low) * len(high) / len(a) ** 2 * (sum(high) / len(high) - sum(low) / len(low)) ** 2
        if between > least:
            best, least = threshold, between
    return [v > best for v in a]


def literal_aggregated(a: list, own: list) -> list:
    """sum over the cells u above Otsu's threshold of A(u) P(u, .), not smoothed."""
    inside = literal_otsu(a)
    return [sum(a[u] * own[u][v] for u in range(len(a)) if inside[u]) for v in range(len(a))]


def literal_overlap(maps: list, seen: list) -> float:
    """Mean over i != j of sum_u min(S_j(u) / sum S_j, A_i(u) / sum A_i)."""
    pairs = [(i, j) for i in range(len(maps)) for j in range(len(maps)) if i != j]
    return sum(
        sum(min(s / sum(seen[j]), a / sum(maps[i])) for s, a in zip(seen[j], maps[i])) for i, j in pairs
    ) / len(pairs)
