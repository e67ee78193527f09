"""What the rainbow score chooses from, and how much its choice can matter: results/rainbow.json.

python -m benchmarks.rainbow WORLD...      (worlds of finished runs of l2dm bench lifelong)

Before the next lesson, candidates for every concept's short-term memory are drawn as learning draws them. The
judge, who has no part in the choice, says how good the chosen pictures are, beside the mean candidate (which
is what random selection gets) and the best it could find.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.main import ROOT, made_by
from l2dm import World
from l2dm.bench.scorer import Scorer
from l2dm.evaluation.summary import spread
from l2dm.memory.rainbow import select
from l2dm.world import store
from l2dm.world.memories import read_long_term

MODES = {"rainbow": 1.0, "guided alone": 1e6, "diverse alone": 0.0}  # name -> beta_S


def world_figures(world: World, scorer: Scorer) -> dict[str, dict[str, float]]:
    """Of each way to choose: image alignment and identification by the judge, and how unlike one another a
    concept's chosen pictures are.
    """
    backbone, learn, scale = (
        world.backbone(),
        world.settings("learn"),
        world.settings("generate").guidance_scale,
    )
    long = read_long_term(world.manifest.recorded(world.path, world.version))
    drawn = {}
    for turn, (token, prompts) in enumerate(long.prompts.items()):
        asked = [prompt for prompt in prompts for _ in range(learn.candidates)]
        images = backbone.decode_latents(
            backbone.draw_latents(asked, learn.prior_steps, scale, 7919 + 101 * turn)
        )
        like = scorer.judge.likeness(images, scorer.known)
        drawn[token] = backbone.features.images(images), like
    generated = torch.cat([features for features, _ in drawn.values()])
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for token, (features, like) in drawn.items():
        mine, stored = scorer.tokens.index(token), long.features[token]
        order = like[:, mine].argsort(descending=True)
        chosen = {name: select(features, generated, stored, guide) for name, guide in MODES.items()}
        chosen |= {
            "mean candidate": torch.arange(len(like)),
            "best by the judge": order[: len(stored)],
            "worst by the judge": order[-len(stored) :],
        }
        for name, taken in chosen.items():
            unit = F.normalize(features[taken].float(), dim=-1)
            pairs = [1 - float(unit[a] @ unit[b]) for a, b in itertools.combinations(range(len(unit)), 2)]
            right = float((like[taken].argmax(1) == mine).float().mean())
            rows.setdefault(name, []).append(
                (100 * float(like[taken, mine].mean()), right, sum(pairs) / max(1, len(pairs)))
            )
    figures = "image_alignment", "identification", "diversity"
    return {
        name: {f: round(sum(column) / len(column), 4) for f, column in zip(figures, zip(*found))}
        for name, found in rows.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("worlds", type=Path, nargs="+")
    options = parser.parse_args()
    scorer = Scorer("shipped")
    found = [world_figures(World.open(place), scorer) for place in options.worlds]
    choices = {
        name: {f: spread([world[name][f] for world in found]) for f in figures}
        for name, figures in found[0].items()
    }
    store.write_json(
        ROOT / "results" / "rainbow.json",
        {"choices": choices, "worlds": found, "settings": made_by({"guides": MODES})},
    )
    for name, figures in choices.items():
        print(name, {f: (v["mean"], v["std"]) for f, v in figures.items()})


if __name__ == "__main__":
    main()
