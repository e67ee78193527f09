"""A concept that comes in already learnt: put beside the world's own, examined, remembered, and committed as
a new version.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ..backbone import Backbone
from ..concept import Concept
from ..concept.words import TEMPLATES
from ..memory import LongTerm, ShortTerm
from ..settings import LearnSettings
from ..threads import Threads
from ..tuners.prompt_gated import PromptGated
from .examining import OnProgress, Progress
from .lesson import Lesson
from .manifest import Version
from .memories import read_long_term, read_short_term, remember
from .names import KEPT
from .parcel import Parcel
from .past import drawing
from .recollection import FIRST_SEED, recollect

if TYPE_CHECKING:
    from .world import World

#: Pictures by which a concept without photos is remembered.
DRAWINGS = 4


class Arrival(Lesson):
    """Puts ``parcel`` into a world whose lock is held, as ``concept``, with photos of it or none."""

    action = "import"

    def __init__(
        self, world: World, concept: Concept, settings: LearnSettings, on_progress: OnProgress, parcel: Parcel
    ):
        super().__init__(world, concept, settings, on_progress, {})
        self.parcel, self.facts = parcel, parcel.facts

    def take(self) -> Version:
        self.threads = Threads(self.settings.threads)
        with self.threads.during():
            return self._take()

    def _take(self) -> Version:
        world, concept, parcel, began = self.world, self.concept, self.parcel, time.monotonic()
        backbone = world.backbone(self.settings.precision, self.settings.device)
        scale = world.settings("generate").guidance_scale

        def tell(stage: str, done: int, total: int) -> None:
            self.tell(Progress(stage, done, total))

        long = read_long_term(self.head)
        drawn = recollect(world.path, world.manifest, long, backbone, self.settings, scale, tell)
        self.drawn = sorted({*drawn, *world.manifest.drawn})
        self.before = {}
        short = read_short_term(self.head) if self.head else ShortTerm()
        kept = self.head.tensors(KEPT) if self.head and KEPT in self.head else {}
        try:
            backbone.add_token(concept.token, parcel.vectors)
            if parcel.weights:
                nouns = world.tuner.nouns(concept) if isinstance(world.tuner, PromptGated) else {}
                world.tuner.load({**world.tuner.state(), **nouns, **parcel.weights}, world.tuner.later)
            self.remember(backbone, long, scale)
            return self.commit(backbone, long, short, kept, time.monotonic() - began, 0)
        finally:
            world.unload_unless(concept.token)

    def remember(self, backbone: Backbone, long: LongTerm, scale: float) -> None:
        """By its photos, by what another world remembers, or by pictures that are drawn of it; not at all
        without a CLIP pair.
        """
        token, parcel = self.concept.token, self.parcel
        if backbone.features is None:
            return
        if self.concept.photos:
            remember(long, self.concept, backbone)
        elif parcel.long.prompts:
            long.features |= parcel.long.features
            long.prompts |= parcel.long.prompts
        else:
            long.prompts[token] = [TEMPLATES[0].format(self.concept.name)] * DRAWINGS
            long.features[token] = drawing(backbone, self.settings, scale)(long.prompts[token], FIRST_SEED)[1]
        if parcel.drawn and not self.concept.photos:
            self.drawn = sorted({*self.drawn, token})

    def record_of(self) -> dict[str, Any]:
        return {"photos": len(self.concept.photos) or self.parcel.photos, "settings": {}}
