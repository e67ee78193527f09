"""DEN (Yoon et al., arXiv 1708.01547), carried over from classification to diffusion: split and widen where
needed.

There: a task retrains the units that it can use; a unit that moves too far is split, into the old one and a
duplicate that is the new task's; where that is not enough the layer gets new units, those that do nothing are
removed; a task is served by the units that were there when it was learnt (its stamp). Here a unit is a
rank-one component u d^T of a layer's keys or values:

- retrain: ``rank`` new components of a layer are trained, and as many earlier ones, those that the task can
  use, which are those that
  its prompts excite most (all of them, and a step would change more with every task, to noise after six);
- split: an earlier component with ||u' d'^T - u d^T|| > SPLIT * ||u d^T|| goes back to what it was, and its
  move becomes the new task's;
- widen: the new components and these moves together are one change of the layer; it is kept by its singular
  values above
  WIDEN * the largest of any layer, so that a layer gets as many components as it needs, often none;
- stamps: a prompt is served by the components up to the newest concept that it names; without one by the
  pretrained weights.

The singular values take the place of DEN's group sparsity. What earlier concepts can lose is what moved by
less than SPLIT.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..backbone import Backbone, Conditioning
from ..backbone.sites import entering
from ..concept import Concept
from ..settings import LearnSettings
from .prompt_gated import PromptGated

SPLIT = 0.05
WIDEN = 0.05


def moved(old: tuple[torch.Tensor, torch.Tensor], new: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """(components,) relative distance of rank-one components, given as their ``(down, up)``: (components,
    in), (out, components).
    """
    (d, u), (e, v) = old, new
    size = (u * u).sum(0) * (d * d).sum(1)
    apart = (v * v).sum(0) * (e * e).sum(1) + size - 2 * (u * v).sum(0) * (d * e).sum(1)
    return (apart.clamp(min=0) / size.clamp(min=1e-20)).sqrt()


class Widening(PromptGated):
    """Adapters ``0001``, ``0002``, ... by stamp, shared by all later tasks; ``<token>/stamp`` says which is a
    concept's newest.
    """

    goes_on = False  # a settled task's components are split, merged and cut by their size

    def attach(self, backbone: Backbone) -> None:
        self.retrained: dict[
            str, dict[str, torch.Tensor]
        ] = {}  # layer -> what ``useful`` says, while a task is learnt
        super().attach(backbone)

    def begin(self, concept: Concept, settings: LearnSettings) -> None:
        self.before, stamp = self.values(), len(self.adapters) + 1
        earlier = {name: t for name, t in self.before.items() if name.endswith((".down", ".up"))}
        self.now = {**self.now, f"{concept.token}/stamp": torch.tensor([stamp])}
        self.train({**earlier, **self.fresh(f"{stamp:04d}", settings)})
        prompts = list(
            dict.fromkeys(
                prompt
                for photo in concept.photos
                for prompt in concept.prompts(photo, settings.captions_only)
            )
        )
        with torch.no_grad():
            features = (
                entering(self.backbone.denoiser, self.backbone.encode_text(prompts)).flatten(0, 1).float()
            )
            self.retrained = {layer: self.useful(layer, features, settings.rank) for layer in self.layers}

    def useful(self, layer: str, features: torch.Tensor, count: int) -> dict[str, torch.Tensor]:
        """Earlier adapter -> (components,) of bool: of all earlier ones the ``count`` that give most for
        ``features`` (n, in).
        """
        pairs = [self.factors(name, layer) for name in self.adapters[:-1]]
        given = torch.cat(
            [features.new_empty(0), *((features @ d.T).abs().mean(0) * u.norm(dim=0) for d, u in pairs)]
        )
        chosen = torch.zeros_like(given, dtype=torch.bool)
        chosen[given.topk(min(count, len(given))).indices] = True
        return dict(zip(self.adapters, chosen.split([len(d) for d, _ in pairs])))

    def factors(self, adapter: str, layer: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Of earlier components only those that are retrained take gradients."""
        down, up = super().factors(adapter, layer)
        if (chosen := self.retrained.get(layer, {}).get(adapter)) is not None:
            down, up = torch.where(chosen[:, None], down, down.detach()), torch.where(chosen, up, up.detach())
        return down, up

    def age(self, adapter: str) -> int | str:
        return adapter

    def teaching(self, tokens: Sequence[str]) -> list[str]:
        newest = max((int(self.now[f"{t}/stamp"]) for t in tokens if f"{t}/stamp" in self.now), default=0)
        return [name for name in self.adapters if int(name) <= newest]

    def gates(self, reading: Conditioning) -> torch.Tensor:
        """1 in the whole of a prompt whose newest concept is not older than the adapter."""
        stamps = {name.split("/")[0]: int(t) for name, t in self.now.items() if name.endswith("/stamp")}
        ids = reading.ids
        named = self.backbone.naming(ids)[:, self.backbone.tokens.places(list(stamps))]
        newest = torch.zeros(len(ids), dtype=torch.long, device=ids.device)
        for column, stamp in zip(named.T, stamps.values()):
            newest = torch.where(column, newest.clamp(min=stamp), newest)
        acting = newest[:, None] >= torch.tensor([int(name) for name in self.adapters], device=ids.device)
        return acting[:, None].expand(-1, ids.shape[1], -1)

    @torch.no_grad()
    def finish(self) -> None:
        """Split what moved too far, then widen each layer by what the task needs of it."""
        now, (*earlier, newest) = dict(self.now), self.adapters
        changes = {}
        for layer in self.layers:
            changes[layer] = self.change(layer, [newest])
            for name in earlier:
                keys = f"{name}/{layer}.down", f"{name}/{layer}.up"
                (d, u), (e, v) = (self.before[key] for key in keys), (self.now[key] for key in keys)
                split = moved((d, u), (e, v)) > SPLIT
                changes[layer] += v[:, split] @ e[split] - u[:, split] @ d[split]
                now[keys[0]], now[keys[1]] = torch.where(split[:, None], d, e), torch.where(split, u, v)
        parts = {layer: torch.linalg.svd(change, full_matrices=False) for layer, change in changes.items()}
        least = WIDEN * max(float(s[0]) for _, s, _ in parts.values())
        for layer, (u, s, v) in parts.items():
            kept = s > least
            now[f"{newest}/{layer}.down"], now[f"{newest}/{layer}.up"] = v[kept], u[:, kept] * s[kept]
        self.now, self.parameters, self.retrained = {name: t.detach() for name, t in now.items()}, {}, {}
