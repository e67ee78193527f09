"""The judge's training: on composed pictures of known content, apart from the base (other network, other
seed, other icons).

python -m mini_base.judge [--work .work/base] [--out l2dm/evaluation/judge] [--steps N]

It sees every icon of a thing in the training styles, and in the two held-out styles those of nouns that the
base does not have. The held-out styles' drawings of the base's nouns it never sees: 100 of them test it, the
others calibrate it.

The shipped weights are of an earlier recipe (commit 6f7b50c: five styles to learn from, references at any
place like the other pictures). Of their 4,800 steps the first 1,000 were on pictures less degraded than
``degraded`` makes them now, the first 1,500 without the cross-entropy of nouns, and the first 3,500 on pairs
drawn at 0.40 to 0.52 of the side (later 0.44 to 0.60).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from l2dm.evaluation.shipped_judge import JudgeNet, likeness, pool

from . import verdicts
from .corpus import HELD_OUT_STYLES, NOUNS, TRAIN_STYLES, Icon, load_things
from .judge_episodes import KINDS, QUERIES, REFERENCES, SEED, THINGS, EpisodeSampler
from .judge_measures import calibrate, measure, pairs, prototypes
from .training import DEVICE, Training, averaging, side_by_side

STEPS = 4800
TESTED = 100
ICON_SIDE = 96  # pixels: enough for its pictures of 64


def split(work: Path) -> tuple[list[Icon], list[Icon], list[Icon]]:
    """Icons to learn from, unseen ones to test with, unseen ones to calibrate with."""
    everything = load_things(work, (*TRAIN_STYLES, *HELD_OUT_STYLES), ICON_SIDE)
    unseen = [icon for icon in everything if icon.noun in NOUNS and icon.style in HELD_OUT_STYLES]
    seen = [icon for icon in everything if not (icon.noun in NOUNS and icon.style in HELD_OUT_STYLES)]
    order = np.random.default_rng(SEED).permutation(len(unseen))
    return seen, [unseen[i] for i in order[:TESTED]], [unseen[i] for i in order[TESTED:]]


class JudgeLoss(torch.nn.Module):
    """What the judge has to tell of a step's pictures: presence of every thing in every picture (a sigmoid
    each, as in SigLIP, arXiv 2303.15343), which thing it is where there is one, nouns, background.
    """

    def __init__(self):
        super().__init__()
        self.net = JudgeNet(len(NOUNS), len(KINDS)).to(memory_format=torch.channels_last)

    def forward(self, pixels, nouns, there, where) -> torch.Tensor:
        net, references = self.net, THINGS * REFERENCES
        cells, saliency, noun_logits, background_logits = net(pixels)
        known = F.normalize(
            pool(cells[:references], saliency[:references]).unflatten(0, (THINGS, REFERENCES)).mean(1), dim=-1
        )
        like = likeness(cells[references:], known)
        presence = F.binary_cross_entropy_with_logits(
            net.sharpness * like - net.threshold, there, pos_weight=torch.tensor(3.0)
        )
        alone = there.sum(1) == 1
        which = F.cross_entropy(20 * like[alone], there[alone].argmax(1))
        named = F.binary_cross_entropy_with_logits(noun_logits, nouns, pos_weight=torch.tensor(3.0))
        single = nouns.sum(1) == 1
        single[references:] &= alone
        noun = F.cross_entropy(noun_logits[single], nouns[single].argmax(1))
        return (
            8 * presence + which + 8 * named + noun + F.cross_entropy(background_logits[references:], where)
        )


def _work(rank: int, workers: int, work: Path, steps: int) -> None:
    """One of the training processes, with things of its own."""
    torch.manual_seed(SEED)
    loss_of = JudgeLoss()
    run = Training(work / "judge", loss_of, lr=2e-3, total=steps, warmup=100, decay=0.99, leader=rank == 0)
    episodes = EpisodeSampler(split(work)[0], seed=SEED + run.step + 100_000 * rank)
    forward = averaging(loss_of, workers)
    while not run.done:
        run.update(
            forward(*(part.to(DEVICE) for part in episodes.step())),
            (THINGS * REFERENCES + QUERIES) * workers,
            clip=5.0,
        )


def train(work: Path, steps: int) -> JudgeNet:
    """Train (or take up, or just load) the judge."""
    icons = split(work)[0]  # renders what is not rendered yet
    side_by_side(_work, work, steps)
    return settled(
        Training(work / "judge", JudgeLoss(), lr=0.0, total=steps).averaged().net.cpu(),
        EpisodeSampler(icons, seed=SEED + 800),
    )


@torch.no_grad()
def settled(net: JudgeNet, episodes: EpisodeSampler, steps: int = 24) -> JudgeNet:
    """``net`` with the normalisation statistics that its averaged weights give over ``steps`` steps'
    pictures.
    """
    net.train()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain mean over all that is seen
    for _ in range(steps):
        net(episodes.step()[0])
    return net.eval()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path(".work/base"))
    parser.add_argument("--out", type=Path, default=Path("l2dm/evaluation/judge"))
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    net = train(options.work, options.steps).requires_grad_(False)
    seen, tested, others = split(options.work)
    ours = [icon for icon in seen if icon.noun in NOUNS]
    samplers = [EpisodeSampler(others, seed=SEED + 900, degrade=degrade) for degrade in (False, True)]
    asked = [pairs(net, episodes, prototypes(net, episodes), 400) for episodes in samplers]
    sharpness, threshold = calibrate(*(torch.cat(part) for part in zip(*asked)))
    net.sharpness.fill_(sharpness)
    net.threshold.fill_(threshold)
    asked = [pairs(net, episodes, prototypes(net, episodes), 400, look_alikes=False) for episodes in samplers]
    steep, middle = calibrate(*(torch.cat(part) for part in zip(*asked)), even=True)
    state = json.loads((options.work / "judge" / "state.json").read_text())
    clean, degraded = (measure(net, tested, ours, degrade) for degrade in (False, True))
    facts = {
        "nouns": list(NOUNS),
        "backgrounds": KINDS,
        "found": round(middle / steep, 4),
        "measured": {"things": len(tested), **clean, "worn": degraded},
        "training": {
            "things": len(seen),
            "steps": state["step"],
            "pictures": state["pictures"],
            "seconds": round(state["seconds"]),
            "seed": SEED,
        },
    }
    options.out.mkdir(parents=True, exist_ok=True)
    save_file(
        {k: v.half().contiguous() for k, v in net.state_dict().items()}, options.out / "judge.safetensors"
    )
    (options.out / "judge.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps({**facts, "verdict": verdicts.add(options.work, options.out)}))


if __name__ == "__main__":
    main()
