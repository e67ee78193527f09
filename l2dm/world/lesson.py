"""One lesson: a concept is learnt, examined with those before it, and committed as a new version, or not at all."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from ..backbone import Backbone
from ..concept import Concept
from ..concept.words import class_prompt
from ..errors import LearningDiverged, LearningStopped, NotKept, SettingsError
from ..evaluation.examination import drift, due, score, worst_loss
from ..evaluation.flat import shown
from ..generation import contact_sheet, draw
from ..learner import Learning, Step, check_captions, stop_signals
from ..memory import LongTerm, ShortTerm
from ..methods import METHODS
from ..settings import LearnSettings
from ..threads import Threads
from . import store
from .draft import Draft
from .manifest import Version, entry, folder_of, now, picture_file
from .past import KEPT, NOUNS, gather, remembered, write_long_term, write_short_term
from .recorded import digests
from .tensors import write_tensors
from .weights import write_weights

if TYPE_CHECKING:
    from .world import World


@dataclass(frozen=True)
class Progress:
    """What ``learn`` is doing: ``stage`` is "prior", "memory", "learn" or "report"; ``step`` holds details while it learns."""

    stage: str
    done: int
    total: int
    step: Step | None = None


OnProgress = Callable[[Progress], None]


class Lesson:
    """Teaches ``concept`` to a world whose lock is held."""

    def __init__(
        self,
        world: World,
        concept: Concept,
        settings: LearnSettings,
        on_progress: OnProgress,
        earlier: dict[str, Concept],
    ):
        self.world, self.concept, self.settings, self.tell, self.earlier = (
            world,
            concept,
            settings,
            on_progress,
            earlier,
        )
        self.head = world.manifest.recorded(world.path, world.version) if world.version else None

    def run(self, discard: bool) -> Version:
        world, concept, settings = self.world, self.concept, self.settings
        lasting = {name: value for name, value in settings.as_dict().items() if name != "threads"}
        identity = {"concept": concept.digest, "settings": lasting, "parent": world.version}
        identity["earlier"] = {token: other.digest for token, other in self.earlier.items()}
        draft = Draft(world.path / "learning", identity)
        draft.check(discard)
        self.threads = Threads(settings.threads, draft.threads)
        with self.threads.during():
            return self._run(draft)

    def _run(self, draft: Draft) -> Version:
        world, concept, settings = self.world, self.concept, self.settings
        began = time.monotonic()
        backbone = world.backbone()
        self.check(backbone)
        check_captions(concept, settings.captions_only, backbone)
        own = backbone.own_vector(concept.token)
        past, short = gather(
            world.path, self.head, world.concepts, concept, backbone, world.tuner, settings, world.settings("generate").guidance_scale,
            lambda stage, done, total: self.tell(Progress(stage, done, total)), self.earlier,
        )  # fmt: skip
        try:
            vector = backbone.add_token(
                concept.token, backbone.word_vector(concept.noun) if own is None else own
            )
            learning = Learning(backbone, world.tuner, vector, concept, past, settings)
            before = draft.resume(learning)
            self.threads.go_on(draft.history, learning.done)
            with stop_signals() as stop:
                for step in learning.run():
                    self.tell(Progress("learn", step.step, step.steps, step))
                    last = step.step == step.steps
                    if stop.is_set() or last or step.step % settings.checkpoint_every == 0:
                        draft.save(learning, before + time.monotonic() - began, self.threads.history)
                    self.threads.after(step.step)
                    if stop.is_set():
                        raise LearningStopped(step.step, step.steps)
            kept = learning.finish()
            adopted = 0 if own is None else len(backbone.tokens.ids[concept.token])
            version = self.commit(backbone, short, kept, before + time.monotonic() - began, adopted)
        except (NotKept, LearningDiverged):
            draft.remove()
            raise
        finally:
            world.unload_unless(concept.token)
        draft.remove()
        return version

    def check(self, backbone: Backbone) -> None:
        """Raises SettingsError before anything is drawn when the settings need an image encoder or a report card that is not there."""
        s, memory = self.settings, METHODS[self.settings.method].memory not in ("nothing", "photos")
        if backbone.features is None and (memory or s.keep_if_forgetting_below):
            what = f"method {s.method!r}" if memory else "keep_if_forgetting_below"
            raise SettingsError(
                f"{what} compares pictures by a CLIP model, and {self.world.path} has none; give it one: "
                f"l2dm relocate {self.world.path} --clip FOLDER_OR_HUB_ID"
                + ("; or choose another method, such as custom-diffusion" if memory else "")
            )
        if s.keep_if_forgetting_below and not (s.previews and s.report_concepts):
            raise SettingsError(
                "keep_if_forgetting_below needs the report card: previews and report_concepts above 0"
            )

    def commit(
        self,
        backbone: Backbone,
        short: ShortTerm,
        kept: dict[str, torch.Tensor],
        seconds: float,
        adopted: int,
    ) -> Version:
        """Write the new version's folder, then the manifest that names it: the second rename is the commit. ``adopted``: as in ``Version``."""
        world, concept, number = self.world, self.concept, self.world.manifest.counter + 1
        vectors = dict(zip(backbone.tokens.ids, backbone.tokens.vectors, strict=True))
        long = remembered(self.head, concept, backbone)
        scores, drifts, nouns, pictures = self.examine(backbone, long, number)
        loss = worst_loss(world.manifest.scores, scores)
        if (most := self.settings.keep_if_forgetting_below) and loss > most:
            raise NotKept(concept.token, loss, most)

        def fill(folder: Path) -> None:
            write_weights(folder, world.tuner.state(), self.head)
            write_tensors(folder / "tokens.safetensors", vectors)
            write_long_term(folder, long)
            write_short_term(folder, short)
            if kept:
                write_tensors(folder / KEPT, kept)
            if nouns:
                write_tensors(folder / NOUNS, nouns)
            for name, drawn in pictures.items():
                contact_sheet(drawn).save(folder / picture_file(name))

        folder = folder_of(world.path, number)
        store.write_folder(folder, fill)
        version = Version(
            version=number, parent=world.version, created=now(), token=concept.token, noun=concept.noun, photos=len(concept.photos),
            seconds=round(seconds, 2), settings=self.settings.as_dict(), concepts={**world.concepts, concept.token: concept.noun},
            files=digests(folder),
            scores={token: dataclasses.asdict(s) for token, s in {**world.manifest.scores, **scores}.items()}, drift=drifts,
            threads=self.threads.history, adopted=adopted,
        )  # fmt: skip
        told = {"adopted": adopted} if adopted else {}
        world.record(
            entry("learn", version=number, token=concept.token, noun=concept.noun, **told), head=number, counter=number,
            versions={**world.manifest.versions, number: version},
        )  # fmt: skip
        return version

    def examine(self, backbone: Backbone, long: LongTerm, number: int):
        """Draw the new concept, some earlier ones and the nouns; returns scores, drifts, the nouns' features, the pictures."""
        world, s = self.world, self.settings
        concepts = {**world.concepts, self.concept.token: self.concept.noun}
        wanted = dataclasses.replace(
            world.settings("generate"), n=max(1, s.previews), steps=s.prior_steps, seed=0
        )
        last = {token: score.version for token, score in world.manifest.scores.items()}
        most = s.report_concepts if backbone.features else 0  # nothing to compare the others with
        tokens = [
            t for t in due(list(concepts), last, most) if s.previews and (t in long.features or not most)
        ]
        asked = list(dict.fromkeys(concepts[token] for token in tokens)) if backbone.features else []
        nouns = self.head.tensors(NOUNS) if self.head and NOUNS in self.head else {}
        jobs = len(tokens) + len(asked) + sum(noun not in nouns for noun in asked)
        pictures: dict[str, list[Image.Image]] = {}
        done = 0

        def drawn(prompt: str) -> list[Image.Image]:
            nonlocal done
            images = draw(backbone, prompt, wanted)
            done += 1
            self.tell(Progress("report", done, jobs))
            return images

        for token in tokens:
            pictures[token] = drawn(f"a photo of {token} {concepts[token]}")
        if backbone.features is None:
            return {}, {}, {}, pictures

        def seen(images: list[Image.Image]) -> np.ndarray:
            return shown(backbone.features.images(images), images).numpy()

        drifts = {}
        for noun in asked:
            if noun not in nouns:
                with world.tuner.pretrained():
                    nouns[noun] = torch.from_numpy(seen(drawn(class_prompt(noun))))
            pictures[noun] = drawn(class_prompt(noun))
            both = min(wanted.n, len(nouns[noun]))
            drifts[noun] = drift(seen(pictures[noun])[:both], nouns[noun][:both].numpy())
        stored = {token: features.numpy() for token, features in long.features.items()}
        scores = {token: score(seen(pictures[token]), token, stored, number) for token in tokens}
        return scores, drifts, nouns, pictures
