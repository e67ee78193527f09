"""The judge's training: on composed pictures of known content, apart from the base (other network, other seed, other icons).

python -m mini_base.judge [--work .work/base] [--out l2dm/evaluation/judge] [--steps N]

It sees every icon of a thing in the training styles, and in the two held-out styles those of nouns that the base
does not have. The held-out styles' drawings of the base's nouns it never sees: 100 of them test it, the others calibrate it.

The shipped weights are of an earlier recipe (commit 6f7b50c: five styles to learn from, references at any place like the other
pictures). Of their 4,800 steps the first 1,000 were on lighter wear than ``worn`` has now, the first 1,500 without the
cross-entropy of nouns, and the first 3,500 on pairs drawn at 0.40 to 0.52 of the side (later 0.44 to 0.60).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from l2dm.evaluation.judge import JudgeNet, likeness, pool

from . import verdicts
from .autoencoder import to_model
from .corpus import HELD_OUT_STYLES, NOUNS, TRAIN_STYLES, Icon, load_things
from .places import PLACES, PLAIN
from .scenes import Composer, Scene
from .training import DEVICE, Training, averaging, side_by_side
from .wear import worn

STEPS, SEED = 4800, 11
THINGS, REFERENCES, QUERIES = (
    24,
    2,
    40,
)  # a step's things, reference pictures of each, and pictures to be judged
TESTED = 100
ICON_SIDE = 96  # pixels: enough for its pictures of 64
KINDS = [*PLACES, *PLAIN]


def split(work: Path) -> tuple[list[Icon], list[Icon], list[Icon]]:
    """Icons to learn from, unseen ones to test with, unseen ones to calibrate with."""
    everything = load_things(work, (*TRAIN_STYLES, *HELD_OUT_STYLES), ICON_SIDE)
    unseen = [icon for icon in everything if icon.noun in NOUNS and icon.style in HELD_OUT_STYLES]
    seen = [icon for icon in everything if not (icon.noun in NOUNS and icon.style in HELD_OUT_STYLES)]
    order = np.random.default_rng(SEED).permutation(len(unseen))
    return seen, [unseen[i] for i in order[:TESTED]], [unseen[i] for i in order[TESTED:]]


class Desk:
    """Lays pictures before the judge: things, references of them, scenes of one to three of them.

    ``wear``: references are photos and stay as they are; everything else looks as a small denoiser might have drawn it."""

    def __init__(self, icons: list[Icon], seed: int, wear: bool = True):
        self.wear, self.icons, self.composer, self.rng = (
            wear,
            icons,
            Composer(icons, seed=seed),
            np.random.default_rng(seed),
        )
        self.alike: dict[str, list[int]] = {}
        for i, icon in enumerate(icons):
            self.alike.setdefault(icon.noun, []).append(i)
        self.ours = [i for i, icon in enumerate(icons) if icon.noun in NOUNS]

    def things(self, count: int) -> list[int]:
        """Different icons, in threes of one noun where there are as many: look-alikes are what is hard to tell apart."""
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
        """A scene of ``icons`` and its pixels, worn or not."""
        scene = self.composer.scene(icons=icons)
        return scene, worn(scene.pixels, self.rng) if self.wear else scene.pixels

    def step(self):
        """One step's pictures (references first), the nouns in each, and what else is in the others: things, background."""
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


class Trial(torch.nn.Module):
    """What the judge has to tell of a step's pictures: presence of every thing in every picture (a sigmoid each, as in
    SigLIP, arXiv 2303.15343), which thing it is where there is one, nouns, background."""

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
    trial = Trial()
    run = Training(work / "judge", trial, lr=2e-3, total=steps, warmup=100, decay=0.99, leader=rank == 0)
    desk, forward = Desk(split(work)[0], seed=SEED + run.step + 100_000 * rank), averaging(trial, workers)
    while not run.done:
        run.update(
            forward(*(part.to(DEVICE) for part in desk.step())),
            (THINGS * REFERENCES + QUERIES) * workers,
            clip=5.0,
        )


def train(work: Path, steps: int) -> JudgeNet:
    """Train (or take up, or just load) the judge."""
    icons = split(work)[0]  # renders what is not rendered yet
    side_by_side(_work, work, steps)
    return settled(
        Training(work / "judge", Trial(), lr=0.0, total=steps).averaged().net.cpu(),
        Desk(icons, seed=SEED + 800),
    )


@torch.no_grad()
def settled(net: JudgeNet, desk: Desk, steps: int = 24) -> JudgeNet:
    """``net`` with the normalisation statistics that its averaged weights give, taken over ``steps`` steps' pictures."""
    net.train()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain mean over all that is seen
    for _ in range(steps):
        net(desk.step()[0])
    return net.eval()


@torch.no_grad()
def prototypes(net: JudgeNet, desk: Desk, count: int = 4) -> torch.Tensor:
    """Of every icon of ``desk``, from ``count`` reference pictures."""
    out = []
    for icon in desk.icons:
        cells, saliency, _, _ = net(to_model(np.stack([desk.photo(icon) for _ in range(count)])))
        out.append(F.normalize(pool(cells, saliency).mean(0), dim=0))
    return torch.stack(out)


@torch.no_grad()
def pairs(
    net: JudgeNet, desk: Desk, known: torch.Tensor, count: int, asked: int = 12, look_alikes: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Likeness and truth for ``count`` pictures of two things: both are asked for, and ``asked - 2`` that are not there.
    Without ``look_alikes`` these are of other nouns."""
    like, truth = [], []
    for _ in range(count):
        order = desk.rng.permutation(len(desk.icons))
        if not look_alikes:
            there = {desk.icons[i].noun for i in order[:2]}
            order = np.array([*order[:2], *(i for i in order[2:] if desk.icons[i].noun not in there)])
        order = order[:asked]
        cells, _, _, _ = net(to_model(desk.picture([desk.icons[i] for i in order[:2]])[1][None]))
        like.append(likeness(cells, known[order])[0])
        truth.append(torch.arange(asked) < 2)
    return torch.cat(like), torch.cat(truth)


def calibrate(like: torch.Tensor, truth: torch.Tensor, even: bool = False) -> tuple[float, float]:
    """Sharpness and threshold of the likeliest sigmoid (Platt scaling); with ``even``, as if half of what is asked for were there."""
    weight = (~truth).sum() / truth.sum() if even else None
    a, b = torch.tensor(10.0, requires_grad=True), torch.tensor(6.0, requires_grad=True)
    optimizer = torch.optim.LBFGS([a, b], max_iter=200)

    def closure():
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(a * like - b, truth.float(), pos_weight=weight)
        value.backward()
        return value

    optimizer.step(closure)
    return float(a.detach()), float(b.detach())


@torch.no_grad()
def measure(net: JudgeNet, tested: list[Icon], ours: list[Icon], wear: bool) -> dict:
    """What the judge is worth on unseen pictures, worn or not, of unseen things; and for nouns, of the drawings that the base
    learnt (``ours``), since those are what the base draws."""
    desk, nouns = Desk(tested, seed=SEED + 901, wear=wear), list(NOUNS)
    known = prototypes(net, desk)
    right, placed, total = 0, 0, 0
    for i, icon in enumerate(tested):
        shown = [desk.picture([icon]) for _ in range(10)]
        cells, _, _, background_logits = net(to_model(np.stack([pixels for _, pixels in shown])))
        right += int((likeness(cells, known).argmax(1) == i).sum())
        placed += int(
            (
                background_logits.argmax(1)
                == torch.tensor([KINDS.index(scene.background) for scene, _ in shown])
            ).sum()
        )
        total += len(shown)
    table = Desk(ours, seed=SEED + 902, wear=wear)
    named = [
        net(to_model(table.picture([icon])[1][None]))[2].argmax(1).item() == nouns.index(icon.noun)
        for icon in ours
    ]
    like, truth = pairs(net, desk, known, 500)
    chance = torch.sigmoid(net.sharpness * like - net.threshold)
    said = chance > 0.5
    hits = int((said & truth).sum())
    precision, recall = hits / max(1, int(said.sum())), hits / int(truth.sum())
    bins = [(chance >= low / 10) & (chance < low / 10 + 0.1 + 1e-6 * (low == 9)) for low in range(10)]
    error = sum(
        float(b.float().mean()) * abs(float(chance[b].mean() - truth[b].float().mean()))
        for b in bins
        if b.any()
    )
    return {
        "identity_top1": right / total, "noun_top1": float(np.mean(named)), "background_top1": placed / total,
        "presence_precision": precision, "presence_recall": recall, "presence_f1": 2 * precision * recall / max(1e-9, precision + recall),
        "presence_calibration_error": error, "pictures": {"identity": total, "nouns": len(named), "presence": 500},
    }  # fmt: skip


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
    desks = [Desk(others, seed=SEED + 900, wear=wear) for wear in (False, True)]
    asked = [pairs(net, desk, prototypes(net, desk), 400) for desk in desks]
    sharpness, threshold = calibrate(*(torch.cat(part) for part in zip(*asked)))
    net.sharpness.fill_(sharpness)
    net.threshold.fill_(threshold)
    asked = [pairs(net, desk, prototypes(net, desk), 400, look_alikes=False) for desk in desks]
    steep, middle = calibrate(*(torch.cat(part) for part in zip(*asked)), even=True)
    state = json.loads((options.work / "judge" / "state.json").read_text())
    facts = {
        "nouns": list(NOUNS), "backgrounds": KINDS, "found": round(middle / steep, 4),
        "measured": {"things": len(tested), **measure(net, tested, ours, wear=False), "worn": measure(net, tested, ours, wear=True)},
        "training": {"things": len(seen), "steps": state["step"], "pictures": state["pictures"], "seconds": round(state["seconds"]), "seed": SEED},
    }  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    save_file(
        {k: v.half().contiguous() for k, v in net.state_dict().items()}, options.out / "judge.safetensors"
    )
    (options.out / "judge.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps({**facts, "verdict": verdicts.add(options.work, options.out)}))


if __name__ == "__main__":
    main()
