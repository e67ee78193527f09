"""What a trained judge is worth on things that it has not seen, and its calibration."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from l2dm.evaluation.shipped_judge import JudgeNet, likeness, pool

from .autoencoder import to_model
from .corpus import NOUNS, Icon
from .judge_episodes import KINDS, SEED, EpisodeSampler


@torch.no_grad()
def prototypes(net: JudgeNet, episodes: EpisodeSampler, count: int = 4) -> torch.Tensor:
    """Of every icon of ``episodes``, from ``count`` reference pictures."""
    out = []
    for icon in episodes.icons:
        cells, saliency, _, _ = net(to_model(np.stack([episodes.photo(icon) for _ in range(count)])))
        out.append(F.normalize(pool(cells, saliency).mean(0), dim=0))
    return torch.stack(out)


@torch.no_grad()
def pairs(
    net: JudgeNet,
    episodes: EpisodeSampler,
    known: torch.Tensor,
    count: int,
    asked: int = 12,
    look_alikes: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Likeness and truth for ``count`` pictures of two things: both are asked for, and ``asked - 2`` that are
    not there. Without ``look_alikes`` these are of other nouns.
    """
    like, truth = [], []
    for _ in range(count):
        order = episodes.rng.permutation(len(episodes.icons))
        if not look_alikes:
            there = {episodes.icons[i].noun for i in order[:2]}
            order = np.array([*order[:2], *(i for i in order[2:] if episodes.icons[i].noun not in there)])
        order = order[:asked]
        cells, _, _, _ = net(to_model(episodes.picture([episodes.icons[i] for i in order[:2]])[1][None]))
        like.append(likeness(cells, known[order])[0])
        truth.append(torch.arange(asked) < 2)
    return torch.cat(like), torch.cat(truth)


def calibrate(like: torch.Tensor, truth: torch.Tensor, even: bool = False) -> tuple[float, float]:
    """Sharpness and threshold of the likeliest sigmoid (Platt scaling); with ``even``, as if half of what is
    asked for were there.
    """
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
def measure(net: JudgeNet, tested: list[Icon], ours: list[Icon], degrade: bool) -> dict:
    """What the judge is worth on unseen pictures, degraded or not, of unseen things; and for nouns, of the
    drawings that the base learnt (``ours``), since those are what the base draws.
    """
    episodes, nouns = EpisodeSampler(tested, seed=SEED + 901, degrade=degrade), list(NOUNS)
    known = prototypes(net, episodes)
    right, placed, total = 0, 0, 0
    for i, icon in enumerate(tested):
        shown = [episodes.picture([icon]) for _ in range(10)]
        cells, _, _, background_logits = net(to_model(np.stack([pixels for _, pixels in shown])))
        backgrounds = torch.tensor([KINDS.index(scene.background) for scene, _ in shown])
        right += int((likeness(cells, known).argmax(1) == i).sum())
        placed += int((background_logits.argmax(1) == backgrounds).sum())
        total += len(shown)
    learnt = EpisodeSampler(ours, seed=SEED + 902, degrade=degrade)
    named = [
        net(to_model(learnt.picture([icon])[1][None]))[2].argmax(1).item() == nouns.index(icon.noun)
        for icon in ours
    ]
    like, truth = pairs(net, episodes, known, 500)
    return {
        "identity_top1": right / total,
        "noun_top1": float(np.mean(named)),
        "background_top1": placed / total,
        **presence(torch.sigmoid(net.sharpness * like - net.threshold), truth),
        "pictures": {"identity": total, "nouns": len(named), "presence": 500},
    }


def presence(chance: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    """Precision, recall and calibration of the probabilities ``chance`` (n,) that a thing is there."""
    said = chance > 0.5
    hits = int((said & truth).sum())
    precision, recall = hits / max(1, int(said.sum())), hits / int(truth.sum())
    bins = [(chance >= low / 10) & (chance < low / 10 + 0.1 + 1e-6 * (low == 9)) for low in range(10)]
    errors = [
        float(b.float().mean()) * abs(float(chance[b].mean() - truth[b].float().mean()))
        for b in bins
        if b.any()
    ]
    return {
        "presence_precision": precision,
        "presence_recall": recall,
        "presence_f1": 2 * precision * recall / max(1e-9, precision + recall),
        "presence_calibration_error": sum(errors),
    }
