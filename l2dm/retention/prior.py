"""Prior pairs: pictures of the class noun drawn by the pretrained model (L2DM, arXiv 2309.04430, Eqs. 2-3
[given]; class-specific prior preservation of DreamBooth, arXiv 2208.12242).

    L_PR = E || eps - eps_theta(z_t^p | c^p) ||^2,   (z^p, c^p) = (a latent drawn for "a photo of a dog", that
    prompt)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from ..backbone import Backbone
from ..tuners import Tuner
from .past import DrawNumbers, past_rows
from .retention import Retention, Task
from .rows import Rows


def draw_prior(
    backbone: Backbone,
    tuner: Tuner,
    prompt: str,
    count: int,
    steps: int,
    guidance_scale: float,
    seed: int = 0,
    on_batch: Callable[[int], None] = lambda done: None,
) -> torch.Tensor:
    """``count`` latents (count, C, h, w) of ``prompt`` by the pretrained weights, never decoded."""
    with tuner.pretrained():
        return backbone.draw_latents([prompt] * count, steps, guidance_scale, seed, on_batch=on_batch)


class PriorPairs(Retention):
    """L_PR of one class noun, or the mean over several."""

    @classmethod
    def asked(cls, task: Task) -> bool:
        return bool(task.past.priors)

    def rows(self, photos: Rows, draw: DrawNumbers) -> list[Rows]:
        past = self.task.past
        classes, entries, latents = past_rows(past.priors, self.task.batch, draw)
        own = past.prior_prompts
        prompts = [own[noun][entry] if noun in own else noun for noun, entry in zip(classes, entries)]
        return [Rows("prior", self.task.settings.prior_weight, latents, prompts)]

    def prompts(self) -> Iterable[str]:
        own = self.task.past.prior_prompts
        return (prompt for noun in self.task.past.priors for prompt in own.get(noun, [noun]))
