"""What a score matrix says about forgetting: pure functions of M.

``M`` is ``(T, T)``: ``M[t, j]`` is how well concept t does after concept j was learnt (larger is better), in
any unit; entries with ``j < t`` do not exist and are not read. Results are in M's unit, and every one of them
is better the larger it is, but ``forgetting``, which is a loss. Definitions: METHOD's, after Lopez-Paz &
Ranzato (arXiv 1706.08840) and Chaudhry et al. (1801.10112).
"""

from __future__ import annotations

import numpy as np


def check(matrix: np.ndarray) -> np.ndarray:
    """``matrix`` as float64; a ValueError unless it is square, not empty, and known on and above the
    diagonal.
    """
    m = np.asarray(matrix, dtype=np.float64)
    if m.ndim != 2 or m.shape[0] != m.shape[1] or not len(m):
        raise ValueError(f"a score matrix is square and not empty; this one is {m.shape}")
    if np.isnan(m[np.triu_indices(len(m))]).any():
        raise ValueError("a score matrix needs every entry M[t, j] with j >= t")
    return m


def _known(m: np.ndarray) -> np.ndarray:
    """Which entries (T, T) exist: those with j >= t."""
    return ~np.tri(len(m), k=-1, dtype=bool)


def average(matrix: np.ndarray) -> float:
    """Mean over all concepts after the last was learnt: the mean of the last column."""
    return float(check(matrix)[:, -1].mean())


def just_learned(matrix: np.ndarray) -> float:
    """Mean of every concept right after it was learnt: the mean of the diagonal."""
    return float(np.diag(check(matrix)).mean())


def forgetting(matrix: np.ndarray) -> float:
    """Mean over t < T of max_{j >= t} M[t, j] - M[t, T]: the best that a concept ever did minus what it does
    at the end.

    As Chaudhry et al. (arXiv 1801.10112) define it: the last concept cannot be forgotten yet and is left out.
    At least 0, and 0 is best; 0 of a single concept. Rows are concepts and columns time; Avalanche's tables
    have them the other way round.
    """
    m = check(matrix)
    return (
        float(np.mean(m[:-1].max(1, where=_known(m)[:-1], initial=-np.inf) - m[:-1, -1]))
        if len(m) > 1
        else 0.0
    )


def backward_transfer(matrix: np.ndarray) -> float:
    """Mean over all but the last concept of the end minus right after learning; below 0 when later concepts
    harm.
    """
    m = check(matrix)
    return float(np.mean(m[:-1, -1] - np.diag(m)[:-1])) if len(m) > 1 else 0.0


def kept(matrix: np.ndarray) -> float:
    """Average at the end as a share of just learned: 1 when nothing was lost."""
    return average(matrix) / just_learned(matrix)


def curve(matrix: np.ndarray) -> list[float]:
    """Mean over the concepts so far, after each concept: what a user of the growing world sees."""
    m = check(matrix)
    return [float(m[: j + 1, j].mean()) for j in range(len(m))]
