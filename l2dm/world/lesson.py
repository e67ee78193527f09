"""One lesson: a concept is learnt, examined with those before it, and committed as a new version, or not at
all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from ..backbone import Backbone, clip_fingerprint
from ..concept import Concept
from ..concept.class_pictures import ClassPictures
from ..errors import LearningStopped, NotFinite, NotKept
from ..evaluation.report_card import max_forgetting
from ..generation import contact_sheet, personal_tokens
from ..learner import Learning, check_captions, check_masks, stop_signals
from ..memory import LongTerm, ShortTerm
from ..methods import METHODS
from ..processes import Processes
from ..settings import WATCHING, LearnSettings
from ..threads import Threads
from ..tuners import TUNERS
from .examining import Examining, OnProgress, Progress
from .filling import Filling
from .following import begin
from .lesson_checkpoint import LessonCheckpoint
from .manifest import Version, entry, folder_of, now
from .memories import read_long_term, remember, write_long_term, write_short_term
from .names import KEPT, NOUNS, VECTORS, picture_file
from .past import PastBuilder
from .recollection import recollect
from .recorded import write_recorded
from .suiting import check_lesson
from .tensors import as_bytes, write_tensors
from .tracking import check_tracker, tracker
from .watching import Watch
from .weights import write_weights

if TYPE_CHECKING:
    from .world import World


#: Seconds after which a launcher has passed a Ctrl-C on to its processes.
ECHO = 2.0


class Lesson(Examining):
    """Teaches ``concept`` to a world whose lock is held."""

    #: What the journal calls it, and what that says beside token and noun.
    action = "learn"
    watch: Watch | None = None
    facts: dict[str, Any] = {}  # noqa: RUF012

    def __init__(
        self,
        world: World,
        concept: Concept,
        settings: LearnSettings,
        on_progress: OnProgress,
        earlier: dict[str, Concept],
        processes: Processes | None = None,
    ):
        self.world, self.concept, self.settings = world, concept, settings
        self.tell, self.earlier = on_progress, earlier
        self.processes = processes or Processes()
        self.more = concept.token in world.concepts
        self.facts = {"more": True} if self.more else {}
        self.head = world.manifest.recorded(world.path, world.version) if world.version else None

    def run(self, discard: bool) -> Version:
        world, concept, settings = self.world, self.concept, self.settings
        lasting = {
            name: value
            for name, value in settings.kept().items()
            if name not in ("threads", "device", *WATCHING)
        }
        identity = {"concept": concept.digest, "settings": lasting, "parent": world.version}
        self.own = ClassPictures.read(settings, concept.noun) if settings.class_pictures else None
        if self.own:
            identity["concept"] += f" {self.own.digest}"
        identity["earlier"] = {token: other.digest for token, other in self.earlier.items()}
        draft = LessonCheckpoint(world.path / "learning", identity)
        draft.check(discard)
        self.threads = Threads(settings.threads, draft.threads)
        run = f"{world.path.name}-{concept.token[1:-1]}-{world.manifest.counter + 1}"
        check_tracker(settings)
        self.watch = watch = Watch(
            draft.folder, identity, concept.token, settings, self.sample_prompts(), tracker(settings, run)
        )
        try:
            with self.threads.during():
                return self._run(draft, watch)
        finally:
            watch.close()

    def _run(self, draft: LessonCheckpoint, watch: Watch) -> Version:
        world, concept, settings = self.world, self.concept, self.settings
        began, began_at = time.monotonic(), world.version
        changed = TUNERS[METHODS[settings.method].tuner].changes_weights
        backbone = world.backbone("float32" if changed else settings.precision, settings.device, False)
        check_lesson(settings, backbone, world.path, self.more)
        vectors = len(backbone.tokens.ids[concept.token]) if self.more else settings.vectors
        check_captions(concept, settings.captions_only, backbone, vectors)
        check_masks(backbone, concept.photos, settings)
        own = None if self.more else backbone.own_vector(concept.token)
        scale = world.settings("generate").guidance_scale

        def tell(stage: str, done: int, total: int) -> None:
            self.tell(Progress(stage, done, total))

        long = read_long_term(self.head)
        drawn = recollect(world.path, world.manifest, long, backbone, settings, scale, tell)
        self.drawn = sorted({*drawn, *world.manifest.drawn})
        self.before = {**self.baseline(backbone, long), **world.manifest.scores}
        others = {token: noun for token, noun in world.concepts.items() if token != concept.token}
        builder = PastBuilder(world.path, backbone, world.tuner, settings, scale, tell)
        past, short = builder.build(concept, others, self.head, long, self.earlier, self.own)
        try:
            vector = self.vector(backbone, own)
            start = vector.detach().clone()
            learning = Learning(
                backbone, world.tuner, vector, concept, past, settings, self.processes, self.more
            )
            before = draft.resume(learning)
            begin(world, learning, start)
            self.threads.go_on(draft.history, learning.done)
            self._steps(learning, draft, watch, began - before)
            kept = learning.finish()
            adopted = 0 if own is None else len(backbone.tokens.ids[concept.token])
            remember(long, concept, backbone)
            if concept.token in long.prompts:
                self.drawn = [token for token in self.drawn if token != concept.token]
            seconds = before + time.monotonic() - began
            version = self.commit(backbone, long, short, kept, seconds, adopted)
        except (NotKept, NotFinite):
            draft.remove()
            raise
        finally:
            world.unload_unless(concept.token, began_at)
        draft.remove()
        return version

    def _steps(self, learning: Learning, draft: LessonCheckpoint, watch: Watch, began: float) -> None:
        """Every step that is left, with its checkpoints and what is kept to watch it by; ``began``: when, had
        it never been stopped.
        """
        every, sample = self.settings.checkpoint_every, functools.partial(self.sample_of, learning)
        watch.begin(draft.log, learning, sample)
        echo = ECHO if self.processes.count > 1 else 0.0
        with stop_signals(echo) as stop, contextlib.closing(learning.run()) as steps:
            for step in steps:
                watch.step(step)
                pictures = functools.partial(self.sample, learning)
                self.tell(Progress("learn", step.step, step.steps, step, pictures))
                due = watch.is_due(step.step)
                if stop.is_set() or due or step.step in (step.steps, step.step // every * every):
                    draft.save(learning, time.monotonic() - began, self.threads.history, watch.log)
                if due:
                    watch.keep(learning, sample)
                self.threads.after(step.step)
                if stop.is_set():
                    raise LearningStopped(step.step, step.steps)

    def vector(self, backbone: Backbone, own: torch.Tensor | None) -> torch.nn.Parameter:
        """The token's, as it is learnt, or where it starts: the base's ``own``, or its noun's."""
        if self.more:
            return backbone.vector_of(self.concept.token)
        new = backbone.word_vector(self.concept.noun)
        new = new.expand(self.settings.vectors, -1) if self.settings.vectors > 1 else new
        return backbone.add_token(self.concept.token, new if own is None else own)

    def commit(
        self,
        backbone: Backbone,
        long: LongTerm,
        short: ShortTerm,
        kept: dict[str, torch.Tensor],
        seconds: float,
        adopted: int,
    ) -> Version:
        """Write the new version's folder, then the manifest that names it: the second rename is the commit.
        ``adopted``: as in ``Version``.
        """
        world, concept, number = self.world, self.concept, self.world.manifest.counter + 1
        vectors = dict(zip(backbone.tokens.ids, backbone.tokens.vectors, strict=True))
        scores, drifts, nouns, pictures = self.examine(backbone, long, number)
        loss = max_forgetting(self.before, scores)
        if (most := self.settings.keep_if_forgetting_below) and loss > most:
            raise NotKept(concept.token, loss, most)

        def fill(folder: Path) -> dict[str, str]:
            place = Filling(folder, self.head)
            write_weights(place, world.tuner.state(), world.concepts)
            write_tensors(folder / VECTORS, vectors)
            write_long_term(place, long)
            write_short_term(place, short)
            if kept:
                write_tensors(folder / KEPT, kept)
            if nouns:
                place.put(NOUNS, as_bytes(nouns, NOUNS))
            if self.watch:
                place.linked |= self.watch.write(folder)
            for name, drawn in pictures.items():
                contact_sheet(drawn).save(folder / picture_file(name))
            return place.linked

        record = write_recorded(folder_of(world.path, number), fill)
        scores = {**world.manifest.scores, **scores}
        version = Version(
            version=number,
            parent=world.version,
            created=now(),
            token=concept.token,
            noun=concept.noun,
            seconds=round(seconds, 2),
            **self.record_of(),
            concepts={**world.concepts, concept.token: concept.noun},
            record=record,
            pictures=list(pictures),
            scores={token: dataclasses.asdict(score) for token, score in scores.items()},
            drift=drifts,
            threads=self.threads.history,
            adopted=adopted,
            drawn=self.drawn,
        )
        told = {"adopted": adopted} if adopted else {}
        line = entry(
            self.action, version=number, token=concept.token, noun=concept.noun, **told, **self.facts
        )
        world.commit(line, version, clip_fingerprint=self.clip_fingerprint(backbone))
        return version

    def record_of(self) -> dict[str, Any]:
        """What the version says of how it was learnt."""
        return {"photos": len(self.concept.photos), "settings": self.settings.kept()}

    def clip_fingerprint(self, backbone: Backbone) -> str:
        """As recorded; of the present CLIP model in a world that was made before it was."""
        known = self.world.manifest.clip_fingerprint
        return known or (clip_fingerprint(backbone.clip) if backbone.clip else "")

    def sample_prompts(self) -> list[str]:
        """What samples are drawn of. Raises PromptError for a token that the world does not know."""
        asked = [part.strip() for part in self.settings.sample_prompt.split("|") if part.strip()]
        for prompt in asked:
            personal_tokens(prompt, [*self.world.concepts, self.concept.token])
        return asked or [f"a photo of {self.concept.name}"]

    def sample_of(self, learning: Learning, prompt: str) -> list[Image.Image]:
        with learning.engine.autocast():
            return self.draw(learning.backbone, prompt)

    def sample(self, learning: Learning, n: int) -> list[Image.Image]:
        """Between two steps: pictures of what is being learnt, in the precision that it is learnt in."""
        with learning.engine.autocast(), learning.backbone.aside.back():
            return self.draw(learning.backbone, f"a photo of {self.concept.name}", n)
