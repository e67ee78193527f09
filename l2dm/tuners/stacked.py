"""An adapter for each task, the earlier ones frozen: where DER and C-LoRA learn.

DER (Yan et al., arXiv 2103.16788), carried over from classification to diffusion. There: each task adds a
feature extractor, the earlier ones are frozen, and a classifier reads all features side by side, [F_1(x),
..., F_k(x)]. Here: extractor i is D_i of a low-rank adapter, the keys and values are read from all features
side by side,

    W_k x = W_0 x + [U_1 ... U_k] [D_1 x; ...; D_k x],      all frozen but the newest U_k, D_k

There as here earlier tasks are rehearsed, but from pictures that the model itself has drawn (as in the row
``replay``), not from stored photos. Left out: the earlier columns of the classifier are not trained again and
channels not pruned, which needs the photos; prior pairs take the place of the auxiliary loss that lets the
new extractor tell its task from the rest.

C-LoRA (Smith et al., arXiv 2304.06027) has the same W_k, and ``retention/self_regularization`` beside it.
"""

from __future__ import annotations

from ..concept import Concept
from ..settings import LearnSettings
from .low_rank import LowRank


class Stacked(LowRank):
    """Adapters ``0001``, ``0002``, ...: one a task, all of them acting in every prompt. They are shared by
    all: ``forget`` keeps them.
    """

    def begin(self, concept: Concept, settings: LearnSettings) -> None:
        self.train(self.fresh(f"{len(self.adapters) + 1:04d}", settings))

    def resume(self, concept: Concept, settings: LearnSettings) -> None:
        newest = f"{self.adapters[-1]}/"
        self.train({name: t for name, t in self.now.items() if name.startswith(newest)})
