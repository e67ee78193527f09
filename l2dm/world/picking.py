"""Another step's weights: of those that a lesson kept (``keep_every``) one is made what the concept is now,
as a new version.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from ..changes import LearnChanges
from ..concept import Concept
from ..errors import SettingsError, WorldError, out_of_memory
from ..memory import ShortTerm
from ..methods import SEPARABLE
from ..threads import Threads
from . import names
from .examining import OnProgress
from .kept_steps import Kept, kept_steps
from .lesson import Lesson
from .manifest import Version
from .memories import read_long_term, read_short_term

if TYPE_CHECKING:
    from .world import World


def pick(world: World, token: str, step: int, on_progress: OnProgress, changes: LearnChanges) -> Version:
    """See ``World.pick``."""
    with world._writing():
        steps = kept_steps(world.path, world.manifest, token)
        if step not in steps:
            have = f"it has those of {', '.join(map(str, sorted(steps)))}" if steps else "none are kept"
            raise WorldError(
                f"{world.path}: no weights of {token} after step {step}; {have} (a lesson keeps them with "
                "keep_every)"
            )
        chosen, learnt = steps[step], world.manifest.versions[steps[step].version]
        since = [version for version in world.manifest.lineage() if version.version > learnt.version]
        moved = [v for v in since if not world.manifest.changes_again(v) or v.token != token]
        if moved and world.manifest.tuner not in SEPARABLE:
            raise SettingsError(
                f"{world.path}: concepts share their weights here ({world.manifest.tuner}), and version "
                f"{moved[0].version} ({moved[0].token}) changed them since; "
                f"go back to version {learnt.version} with l2dm undo first"
            )
        method = {name: value for name, value in learnt.settings.items() if name == "method"}
        settings = world.settings("learn", {**method, **changes, "keep_if_forgetting_below": 0.0})
        tensors = world.manifest.recorded(world.path, learnt.version).tensors(
            names.step_file(step, chosen.token)
        )
        concept = Concept(token, world.concepts[token], ())
        with out_of_memory(f"{world.path}: picking {token}", "the world is as it was (close some programs)"):
            return Pick(world, concept, settings, on_progress, {}).take(chosen, tensors)


class Pick(Lesson):
    """Puts the kept ``tensors`` in the place of a concept's weights, in a world whose lock is held."""

    action = "pick"

    def take(self, chosen: Kept, tensors: dict[str, torch.Tensor]) -> Version:
        self.chosen, self.tensors, self.facts = chosen, tensors, {"step": chosen.step}
        self.threads = Threads(self.settings.threads)
        with self.threads.during():
            return self._take()

    def _take(self) -> Version:
        world, token, began, began_at = self.world, self.concept.token, time.monotonic(), self.world.version
        backbone, others = world.backbone(), [other for other in world.concepts if other != token]
        present = world.manifest.present
        self.drawn, self.before = list(present.drawn) if present else [], {}
        short = read_short_term(self.head).of(others) if self.head else ShortTerm()
        try:
            world.tuner.resume(self.concept, self.settings)
            self._put({**world.tuner.parameters, "token": backbone.vector_of(token)})
            world.tuner.finish()
            long, seconds = read_long_term(self.head), time.monotonic() - began
            return self.commit(backbone, long, short, {}, seconds, 0)
        finally:
            world.unload_unless(token, began_at)

    @torch.no_grad()
    def _put(self, parameters: dict[str, torch.nn.Parameter]) -> None:
        """Raises WorldError where they were kept of a concept of another shape, such as another rank."""
        was = self.chosen.token
        for name, parameter in parameters.items():
            own = name.replace(f"{self.concept.token}/", f"{was}/", 1) if name != "token" else name
            kept = self.tensors[f"weight/{own}"]
            if kept.shape != parameter.shape:
                raise WorldError(
                    f"{self.world.path}: step {self.chosen.step} of version {self.chosen.version} has {own} "
                    f"as {tuple(kept.shape)}, the concept now "
                    f"{tuple(parameter.shape)}; pick of a later lesson"
                )
            parameter.copy_(kept)

    def record_of(self) -> dict[str, Any]:
        learnt = self.world.manifest.versions[self.chosen.version]
        return {"photos": learnt.photos, "settings": learnt.settings}
