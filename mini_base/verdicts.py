"""What the verdict on several concepts (``l2dm.evaluation.composition_verdict``) says of composed pictures,
right ones and wrong ones.

python -m mini_base.verdicts [--work .work/base] [--judge FOLDER]      (adds "verdict" to its figures;
``mini_base.judge`` ends with it)

The benchmark's ten concepts, in pictures that hold what is named (how many of them succeed is the most that
any guidance can reach) and in pictures that do not: one is missing, one is a look-alike of another style, one
is there twice.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
from PIL import Image

from l2dm.bench.multi import groups
from l2dm.bench.multi_judging import judge_concepts
from l2dm.bench.scorer import Scorer
from l2dm.bench.subjects import Subject
from l2dm.evaluation.shipped_judge import SHIPPED

from .concepts import BENCHMARK, ICON_SIDE, LIKE
from .corpus import NOUNS, Icon, load_icons
from .degrading import degraded
from .scenes import Composer

PICTURES = 3  # of every group


def cases(work: Path, subjects: list[Subject]) -> dict[str, list[tuple[tuple[Subject, ...], list[Icon]]]]:
    """Kind -> (what is named, what is in the picture)."""
    own, like = {}, {}
    for subject in subjects:
        noun, style, icon = BENCHMARK[subject.name]
        own[subject] = load_icons(work, (style,), {noun: [icon]}, ICON_SIDE)[0]
        like[subject] = next(
            icon for style in LIKE for icon in load_icons(work, (style,), {noun: NOUNS[noun]}, ICON_SIDE)[:1]
        )
    kinds = {
        kind: groups(kind, subjects, 20, list(NOUNS))
        for kind in ("two_concepts", "two_of_one_noun", "three_concepts")
    }
    found = {kind: [(group, [own[s] for s in group]) for group in some] for kind, some in kinds.items()}
    pairs = kinds["two_concepts"]
    found["one_missing"] = [((a, b), [own[a]]) for pair in pairs for a, b in itertools.permutations(pair)]
    found["one_look_alike"] = [
        ((a, b), [own[a], like[b]]) for pair in pairs for a, b in itertools.permutations(pair)
    ]
    found["one_doubled"] = [
        ((a, b), [own[a], own[b], own[b]]) for pair in pairs for a, b in itertools.permutations(pair)
    ]
    return found


def measure(work: Path, judge: Path, seed: int = 31) -> dict[str, dict[str, float]]:
    """Share of pictures that the verdict calls a success, by kind, of clean and of degraded pictures."""
    scorer, found = Scorer("shipped", judge=str(judge)), {}
    for kind, some in cases(work, list(scorer.subjects.concepts)).items():
        for look in ("clean", "worn"):
            composer = Composer([icon for _, icons in some for icon in icons], seed=seed)
            rng, said = np.random.default_rng(seed), []
            for named, icons in some:
                pixels = [composer.scene(icons=icons).pixels for _ in range(PICTURES)]
                images = [Image.fromarray(degraded(p, rng) if look == "worn" else p) for p in pixels]
                said += [v["success"] for v in judge_concepts(scorer, images, named)]
            found.setdefault(look, {})[kind] = round(float(np.mean(said)), 4)
    return found


def add(work: Path, judge: Path = SHIPPED) -> dict[str, dict[str, float]]:
    """Measure, and write the figures into the card of the judge in folder ``judge``."""
    path = judge / "judge.json"
    facts = json.loads(path.read_text())
    facts["measured"]["verdict"] = measure(work, judge)
    path.write_text(json.dumps(facts, indent=1) + "\n")
    return facts["measured"]["verdict"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path(".work/base"))
    parser.add_argument("--judge", type=Path, default=SHIPPED)
    options = parser.parse_args()
    print(json.dumps(add(options.work, options.judge)))


if __name__ == "__main__":
    main()
