"""The pictures that the judge is trained and measured on."""

from __future__ import annotations

import numpy as np
import torch

from .autoencoder import to_model
from .corpus import NOUNS, Icon
from .degrading import degraded
from .places import PLACES, PLAIN
from .scenes import Composer, Scene

SEED = 11
#: a step's things, reference pictures of each, and pictures to be judged
THINGS, REFERENCES, QUERIES = 24, 2, 40
KINDS = [*PLACES, *PLAIN]


class EpisodeSampler:
    """Pictures for the judge: things, references of them, scenes of one to three of them.

    ``degrade``: references are photos and stay as they are; everything else looks as a small denoiser might
    have drawn it.
    """

    def __init__(self, icons: list[Icon], seed: int, degrade: bool = True):
        self.degrade, self.icons = degrade, icons
        self.composer, self.rng = Composer(icons, seed=seed), np.random.default_rng(seed)
        self.alike: dict[str, list[int]] = {}
        for i, icon in enumerate(icons):
            self.alike.setdefault(icon.noun, []).append(i)
        self.ours = [i for i, icon in enumerate(icons) if icon.noun in NOUNS]

    def things(self, count: int) -> list[int]:
        """Different icons, in threes of one noun where there are as many: look-alikes are hard to tell."""
        rng, chosen = self.rng, {}
        while len(chosen) < count:
            first = int(rng.choice(self.ours) if rng.random() < 0.5 else rng.integers(len(self.icons)))
            kin = self.alike[self.icons[first].noun]
            for i in rng.permutation(kin)[:3] if rng.random() < 0.7 else [first]:
                chosen.setdefault(int(i), None)
        return list(chosen)[:count]

    def photo(self, icon: Icon) -> np.ndarray:
        return self.composer.photo(icon, str(self.rng.choice(KINDS)))

    def picture(self, icons: list[Icon]) -> tuple[Scene, np.ndarray]:
        """A scene of ``icons`` and its pixels, degraded or not."""
        scene = self.composer.scene(icons=icons)
        return scene, degraded(scene.pixels, self.rng) if self.degrade else scene.pixels

    def step(self):
        """One step's pictures (references first), the nouns in each, and of the others the things that are
        there and the background.
        """
        rng, things = self.rng, self.things(THINGS)
        known, labels = list(NOUNS), [i for i in things for _ in range(REFERENCES)]
        pixels = [self.photo(self.icons[i]) for i in labels]
        nouns, there, where = torch.zeros(len(labels) + QUERIES, len(NOUNS)), torch.zeros(QUERIES, THINGS), []
        for r, i in enumerate(labels):
            if self.icons[i].noun in NOUNS:
                nouns[r, known.index(self.icons[i].noun)] = 1
        for q in range(QUERIES):
            picked = rng.choice(THINGS, size=int(rng.choice([1, 2, 3], p=[0.35, 0.5, 0.15])), replace=False)
            icons = [self.icons[things[p]] for p in picked]
            scene, drawn = self.picture(icons)
            pixels.append(drawn)
            there[q, picked] = 1
            nouns[len(labels) + q, [known.index(icon.noun) for icon in icons if icon.noun in NOUNS]] = 1
            where.append(KINDS.index(scene.background))
        return to_model(np.stack(pixels)), nouns, there, torch.tensor(where)
