"""Kept directions (ours; after gradient projection memory, Saha et al., arXiv 2103.09762): keys and values
stay where others look.

A layer that reads the prompt is W c, with c a text feature (d,). What a learning adds to W along the features
of other prompts changes those; what it adds at right angles to them does not. Text features lie in few
directions, and a new token's own are partly apart from them. So in every step the gradient G of each tuned W
(d_out, d), before the learning W', is turned, and the step's result held:

    G  <-  G (1 - B Bᵀ),      W  <-  W' + (W - W') (1 - B Bᵀ)

with B (d, r), orthonormal: the leading eigenvectors of C = sum of c cᵀ over what is to be kept, as many as
hold a ``share`` of its trace. C, (d, d), adds up: everyday sentences about everyday things, about each class
noun from before its concept is learnt, about the concept from then on. It is all that is remembered, so a
step and a lesson cost the same at every k, and nothing of a photo is in it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..backbone import Backbone
from ..backbone.sites import entering
from ..concept.words import TEMPLATES, article
from .retention import Retention, Task

#: What one may say of a thing; ``{}`` is the thing.
SENTENCES = (
    *TEMPLATES,
    "{} in the grass",
    "{} in a room",
    "{} on a street",
    "{} under a blue sky",
    "{} in the water",
    "{} and a ball",
    "a painting of {}",
    "a small {}",
)
#: What the base is to keep in any case.
THINGS = (
    "person",
    "dog",
    "cat",
    "bird",
    "horse",
    "fish",
    "butterfly",
    "flower",
    "tree",
    "mountain",
    "house",
    "car",
    "boat",
    "airplane",
    "chair",
    "cup",
    "book",
    "clock",
    "shoe",
    "hat",
    "ball",
    "apple",
    "cake",
    "guitar",
)
KEY = "directions"


@torch.no_grad()
def correlations(backbone: Backbone, words: str) -> torch.Tensor:
    """C of SENTENCES about ``words``: (d, d), the mean over all their positions that are read."""
    read = backbone.read([sentence.format(words) for sentence in SENTENCES])
    features = entering(backbone.denoiser, read.features)
    features = features.flatten(0, 1) if read.mask is None else features[read.mask.bool()]
    features = features.cpu().double()
    return features.T @ features / len(features)


def leading(correlations: torch.Tensor, share: float) -> torch.Tensor:
    """B (d, r) of C (d, d): the fewest leading eigenvectors with ``share`` of the trace, in (0, 1]."""
    values, vectors = torch.linalg.eigh(correlations)
    held = values.flip(0).cumsum(0) / values.sum()
    return vectors.flip(1)[:, : int((held < share).sum()) + 1]


class KeptDirections(Retention):
    """Of the tuned weights as they are before the concept; those that do not read text features are left
    alone.
    """

    @classmethod
    def asked(cls, task: Task) -> bool:
        return task.method.directions and task.settings.kept_share > 0

    def begin(self) -> None:
        backbone, kept = self.task.backbone, self.task.past.kept
        earlier = (
            kept[KEY].double()
            if KEY in kept
            else sum(correlations(backbone, article(thing)) for thing in THINGS)
        )
        self.sum = earlier + correlations(backbone, article(self.task.concept.noun))
        self.basis = leading(self.sum, self.task.settings.kept_share).float().to(backbone.device)
        tuned, width = self.task.tuner.parameters.values(), len(self.sum)
        self.before = [(p, p.detach().clone()) for p in tuned if p.ndim == 2 and p.shape[1] == width]

    @torch.no_grad()
    def before_step(self) -> None:
        """Take out of the gradients what lies along B. Most of them does, and AdamW
        would measure its steps by that, so that little would be learnt of what remains."""
        for p, _ in self.before:
            if p.grad is not None:
                p.grad.sub_(self._along(p.grad))

    @torch.no_grad()
    def after_step(self) -> None:
        """Take back what it added along B; AdamW's scales differ from weight to
        weight.
        """
        for p, before in self.before:
            p.sub_(self._along(p - before))

    def _along(self, change: torch.Tensor) -> torch.Tensor:
        """The part of ``change`` (d_out, d) along B; r is far below d, so by way of (d_out, r)."""
        basis = self.basis.to(change)
        return (change @ basis) @ basis.T

    def keep(self, losses: Iterator[torch.Tensor]) -> dict[str, torch.Tensor]:
        """C with this concept's own sentences; its token is learnt."""
        concept = self.task.concept
        own = correlations(self.task.backbone, f"{concept.token} {concept.noun}")
        return {KEY: (self.sum + own).float()}
