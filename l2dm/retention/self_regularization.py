"""C-LoRA (Smith et al., arXiv 2304.06027): a new adapter keeps off the weights that earlier ones have
changed.

    L_forget = sum over layers of  || |sum_{i<k} U_i D_i| * U_k D_k ||^2,     * element by element

over the stacked adapters of ``tuners/stacked``. The earlier sum is worked out once a concept, so a step costs
the same at every k. Left out of C-LoRA: its random start of the token and the leaving out of the class noun.
"""

from __future__ import annotations

import torch

from ..tuners import LowRank
from .penalty import Penalty


class SelfRegularization(Penalty):
    """Needs nothing kept: the adapters are its memory."""

    def begin(self) -> None:
        assert isinstance(self.tuner, LowRank)
        self.change = self.tuner.change
        *earlier, self.newest = self.tuner.adapters
        self.past = (
            {layer: self.change(layer, earlier).detach().abs() for layer in self.tuner.layers}
            if earlier
            else {}
        )

    def __call__(self) -> torch.Tensor:
        new = {layer: self.change(layer, [self.newest]) for layer in self.past}
        return sum(((past * new[layer]).square().sum() for layer, past in self.past.items()), torch.zeros(()))
