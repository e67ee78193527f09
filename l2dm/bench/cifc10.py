"""The CIFC-10 protocol: ten concepts one after another, with the captions, prompts, sampler and metric of
CIDM's release.

Dong et al., "How to Continually Adapt Text-to-Image Diffusion Models for Flexible Customization?" (arXiv
2410.17594, NeurIPS 2024). Learnt from the photos' own captions alone. Drawn with DPM-Solver, 50 steps,
guidance 7.5: 20 prompts x 50 pictures a concept, every prompt from the same seeds. Measured with CLIP
ViT-B/32 as ``evaluation.alignment`` says, against the very photos that were learnt from; with DINO ViT-S/16
in the same way.

Where we differ from the release: our prompts say "<dog1> dog" where its say "<dog1> <dog2>", two tokens in
the noun's place (so both are the noun alone for the text metric); learning is ours, with no text encoder
tuned; each picture has a seed of its own, where its are drawn from one running generator; its script also
passes a negative prompt, which here is a setting and empty; and of a picture of one colour every cosine is 0
here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ..backbone import MINI, find_base, load_encoder
from ..concept import check_photos
from ..errors import SettingsError
from ..evaluation.alignment import image_alignment, text_alignment, text_cosine
from ..evaluation.flat import shown
from ..generation import Picture
from ..world.world import World
from .subjects import Subject

#: folder, token, class noun, prompts (prompts/test_<kind>.txt), in the order of the release
CONCEPTS = (
    ("dog", "<dog1>", "dog", "pet"),
    ("duck_toy", "<duck1>", "duck toy", "plushy"),
    ("cat", "<cat1>", "cat", "pet"),
    ("backpack", "<backpack1>", "backpack", "plushy"),
    ("teddybear", "<bear1>", "teddy bear", "plushy"),
    ("painting", "<painting1>", "painting", "style"),
    ("dog2", "<dog2>", "dog", "pet"),
    ("drawing", "<drawing1>", "drawing", "style"),
    ("cat2", "<cat2>", "cat", "pet"),
    ("ink_painting", "<ink1>", "ink painting", "style"),
)
PLACE = "<TOK>"  # where a prompt names the concept
FIRST_SEED = 2024
CLIP, DINO, BASE = "openai/clip-vit-base-patch32", "facebook/dino-vits16", "base"
#: image and text alignment, averages after the last concept
PUBLISHED = {
    "source": "Published, for Stable Diffusion 1.5 (arXiv 2410.17594, Tables 1 and 2); figures of other "
    "bases or smaller runs don't compare.",
    "methods": {
        "fine-tuning": [73.7, 70.0],
        "EWC": [75.9, 72.7],
        "LwF": [74.1, 73.4],
        "C-LoRA": [76.9, 73.6],
        "L2DM": [76.1, 72.7],
        "CIDM": [78.0, 74.8],
    },
}


@dataclass(frozen=True)
class Plan:
    """What every run shares; saved with every result. The defaults are the published protocol."""

    name: ClassVar[str] = "cifc10"
    scores: ClassVar[tuple[str, ...]] = ("image_alignment", "text_alignment", "text_cosine", "dino_alignment")
    beside: ClassVar[dict[str, Any]] = {"published": PUBLISHED}

    data: str = ""
    base: str = MINI
    clip: str = CLIP  # folder or hub id, or "base": the pair in the base's folder clip
    dino: str = DINO  # folder or hub id, or "": without
    count: int = 10
    order: str = "published"  # or "shuffled": the seed's own
    prompts: int = 20
    images: int = 50
    steps: int = 50
    guidance_scale: float = 7.5
    negative_prompt: str = ""
    batch: int = 5
    learn: dict[str, Any] = field(default_factory=dict)  # changes of the base's learn settings
    world_clip: str = ""  # CLIP model that worlds remember by, as for World.create; "": its default

    def sequence(self, seed: int) -> list[Subject]:
        subjects, _ = read(Path(self.data), self.prompts)
        turns = (
            range(len(subjects))
            if self.order == "published"
            else np.random.default_rng(seed).permutation(len(subjects)).tolist()
        )
        return [subjects[i] for i in turns][: self.count]

    def course(self) -> Course:
        return Course(self)

    def card(self) -> dict[str, Any]:
        """Who measures. Figures by a base's own pair say nothing about how good a method is."""
        note = (
            {"note": "a check of the machinery: measured by the base's own CLIP pair, not by ViT-B/32"}
            if self.clip == BASE
            else {}
        )
        return {"clip": self.clip, "dino": self.dino or "none", **note}


class Course:
    """Draws all prompts of a concept, and compares with its photos and its prompts."""

    def __init__(self, plan: Plan):
        self.plan, self.data = plan, Path(plan.data)
        self.clip = load_encoder(own_pair(plan.base) if plan.clip == BASE else plan.clip, "clip", "--clip")
        self.dino = load_encoder(plan.dino, "vit", "--dino") if plan.dino else None
        self.subjects, self.prompts = read(self.data, plan.prompts)
        self.references: dict[str, dict[str, torch.Tensor]] = {}  # token -> encoder -> features of its photos

    def scores(self, world: World, token: str, noun: str) -> dict[str, float]:
        """See ``evaluation.alignment``; ``dino_alignment`` is image alignment by DINO."""
        seen: dict[str, list[torch.Tensor]] = {"clip": [], "dino": []}
        texts = []
        for prompt in self.prompts[
            token
        ]:  # a prompt at a time: a concept's thousand pictures need not be held at once
            images = [
                p.image
                for p in self._drawn(world, prompt.replace(PLACE, f"{token} {noun}"), self.plan.images)
            ]
            texts += [prompt.replace(PLACE, noun)] * len(images)
            for name, encoder in self._encoders():
                seen[name].append(shown(encoder.images(images), images))
        features, known = (
            {name: torch.cat(parts) for name, parts in seen.items() if parts},
            self._known(token),
        )
        wanted = self.clip.texts(texts)
        found = {
            "image_alignment": image_alignment(features["clip"], known["clip"]),
            "text_alignment": text_alignment(features["clip"], wanted),
            "text_cosine": text_cosine(features["clip"], wanted),
        }
        if self.dino:
            found["dino_alignment"] = image_alignment(features["dino"], known["dino"])
        return {name: round(value, 4) for name, value in found.items()}

    def sample(self, world: World, token: str, noun: str) -> Picture:
        return self._drawn(world, self.prompts[token][0].replace(PLACE, f"{token} {noun}"), 1)[0]

    def after(self, world: World, tokens: list[str]) -> dict[str, float]:
        return {}

    def _drawn(self, world: World, prompt: str, n: int) -> list[Picture]:
        """``n`` pictures as the protocol draws them."""
        plan = self.plan
        return world.generate(
            prompt,
            n=n,
            steps=plan.steps,
            guidance_scale=plan.guidance_scale,
            sampler="dpm-solver",
            seed=FIRST_SEED,
            batch=plan.batch,
            negative_prompt=plan.negative_prompt,
            composition="none",
        )

    def _encoders(self):
        return [("clip", self.clip), *([("dino", self.dino)] if self.dino else [])]

    def _known(self, token: str) -> dict[str, torch.Tensor]:
        if token not in self.references:
            folder = next(s.unseen for s in self.subjects if s.token == token)
            photos = [photo.image for photo in check_photos(folder).usable()]
            self.references[token] = {name: encoder.images(photos) for name, encoder in self._encoders()}
        return self.references[token]


def learning(given: dict[str, Any]) -> dict[str, Any]:
    """The protocol's learn settings: captions alone, unless ``given`` says otherwise."""
    return {"captions_only": True, **given}


def own_pair(base: str) -> Path:
    """The CLIP pair in the base's folder; a SettingsError when it has none."""
    folder = find_base(base).folder / "clip"
    if not (folder / "config.json").exists():
        raise SettingsError(
            f"--clip base: {folder} holds no CLIP pair; give --clip a folder or hub id, such as {CLIP}"
        )
    return folder


def read(data: Path, most: int) -> tuple[list[Subject], dict[str, list[str]]]:
    """The concepts, and of each token its first ``most`` prompts. Raises SettingsError when something is
    missing.
    """
    subjects, prompts = [], {}
    for name, token, noun, kind in CONCEPTS:
        folder, file = data / name, data / "prompts" / f"test_{kind}.txt"
        if not folder.is_dir():
            raise SettingsError(
                f"--data {data}: {folder} is missing; give the folder that holds "
                f"{', '.join(c[0] for c in CONCEPTS)} and prompts"
            )
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"--data {data}: {file} cannot be read ({error})") from None
        if wrong := [line for line in lines if PLACE not in line]:
            raise SettingsError(f"{file}: {wrong[0]!r} does not name the concept; write {PLACE} in its place")
        if len(lines) < most:
            raise SettingsError(
                f"{file}: {len(lines)} prompts, and {most} are asked for; add some, or pass --prompts "
                f"{len(lines)}"
            )
        subjects.append(Subject(name, token, noun, folder, folder))
        prompts[token] = lines[:most]
    return subjects, prompts
