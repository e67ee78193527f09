"""The shipped personal concepts: a few pictures each of icons from the held-out styles, as a user's photos
would be.

python -m mini_base.concepts          (writes demo/ and l2dm/bench/concepts/)
python -m mini_base.concepts --fifty FOLDER      (the fifty-concept sequence, there alone)
python -m mini_base.concepts --tuning FOLDER     (six concepts to choose hyper-parameters on, there alone)
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from PIL import Image

from .corpus import NOUNS, Icon, load_icons
from .scenes import Composer

#: name -> (noun, style, icon)
DEMO = {
    "rex": ("dog", "fluent-emoji", "dog-face"),
    "pip": ("penguin", "fluent-emoji", "penguin"),
    "dash": ("car", "fluent-emoji", "automobile"),
}
#: the published protocol's classes (two dogs, two cats, a duck, a backpack, a teddy bear) and three more
BENCHMARK = {
    "dog1": ("dog", "fluent-emoji", "dog-face"),
    "duck1": ("duck", "fluent-emoji", "duck"),
    "cat1": ("cat", "fluent-emoji", "cat-face"),
    "backpack1": ("backpack", "fluent-emoji", "backpack"),
    "bear1": ("teddy bear", "fluent-emoji", "teddy-bear"),
    "dog2": ("dog", "fluent-emoji-flat", "poodle"),
    "cat2": ("cat", "fluent-emoji-flat", "black-cat"),
    "car1": ("car", "fluent-emoji", "automobile"),
    "shoe1": ("shoe", "fluent-emoji", "running-shoe"),
    "owl1": ("owl", "fluent-emoji-flat", "owl"),
}
#: other concepts, for choosing hyper-parameters: none of them is in the benchmark
TUNING = {
    "rabbit1": ("rabbit", "fluent-emoji", "rabbit-face"),
    "apple1": ("apple", "fluent-emoji", "red-apple"),
    "fox1": ("fox", "fluent-emoji-flat", "fox"),
    "bus1": ("bus", "fluent-emoji", "bus"),
    "rabbit2": ("rabbit", "fluent-emoji-flat", "rabbit"),
    "mushroom1": ("mushroom", "fluent-emoji-flat", "mushroom"),
}
#: places of the pictures to learn from, and of those to compare with; the prompts' places are in neither
LEARNT, UNSEEN = ("white", "wood", "gray", "brick", "yellow"), ("wood", "white", "orange", "brick", "gray")
ICON_SIDE = 96  # pixels of the icons that they were drawn from
LIKE = ("noto", "twemoji", "fxemoji")  # styles whose drawings of the same noun are look-alikes


def compose(folder: Path, icon: Icon, places: tuple[str, ...], side: int, seed: int) -> None:
    """One photo of ``icon`` in each of ``places``."""
    folder.mkdir(parents=True, exist_ok=True)
    composer = Composer([icon], side=side, seed=seed, unit=1)
    for i, place in enumerate(places):
        Image.fromarray(composer.photo(icon, place)).save(folder / f"{i:02d}.png", optimize=True)


def _icons(work: Path, style: str, noun: str, names: list[str]) -> list[Icon]:
    return load_icons(work, (style,), {noun: names}, ICON_SIDE)


def demo(out: Path, work: Path) -> None:
    for seed, (name, (noun, style, icon)) in enumerate(DEMO.items()):
        compose(out / "photos" / name, _icons(work, style, noun, [icon])[0], LEARNT, 128, 600 + seed)
    about = {name: {"token": f"<{name}>", "noun": noun} for name, (noun, _, _) in DEMO.items()}
    (out / "concepts.json").write_text(json.dumps(about, indent=1) + "\n")


def benchmark(out: Path, work: Path, concepts: dict[str, tuple[str, str, str]]) -> None:
    """A folder that ``l2dm bench`` reads: of each concept ``learn/`` and ``unseen/``, of each noun
    ``like/<noun>-<style>/``.
    """
    for seed, (name, (noun, style, icon)) in enumerate(concepts.items()):
        picked = _icons(work, style, noun, [icon])[0]
        compose(out / name / "learn", picked, LEARNT, 64, 700 + seed)
        compose(out / name / "unseen", picked, UNSEEN, 64, 800 + seed)
    nouns = list(dict.fromkeys(noun for noun, _, _ in concepts.values()))
    for seed, noun in enumerate(nouns):
        for style in LIKE:
            for icon in _icons(work, style, noun, NOUNS[noun])[:1]:
                compose(out / "like" / f"{noun.replace(' ', '-')}-{style}", icon, LEARNT[:3], 64, 900 + seed)
    record = {
        "concepts": [
            {"name": name, "token": f"<{name}>", "noun": noun} for name, (noun, _, _) in concepts.items()
        ],
        "prompts": [
            "a photo of {} on the beach",
            "a photo of {} in the snow",
            "a photo of {} at night",
            "a photo of {} on a purple background",
        ],
        "like": {
            f"{noun.replace(' ', '-')}-{style}": noun
            for noun in nouns
            for style in LIKE
            if (out / "like" / f"{noun.replace(' ', '-')}-{style}").exists()
        },
        "nouns": [
            noun for noun in ("horse", "frog", "pizza", "rocket", "guitar", "tree") if noun not in nouns
        ],
    }
    (out / "concepts.json").write_text(json.dumps(record, indent=1) + "\n")


def fifty() -> dict[str, tuple[str, str, str]]:
    """Fifty concepts of fifty nouns, the held-out styles by turns: the long run."""
    return {
        f"c{i:02d}": (noun, ("fluent-emoji", "fluent-emoji-flat")[i % 2], names[0])
        for i, (noun, names) in enumerate(list(NOUNS.items())[:50])
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path(".work/base"))
    parser.add_argument("--fifty", type=Path)
    parser.add_argument("--tuning", type=Path)
    options = parser.parse_args()
    if options.fifty:
        benchmark(options.fifty, options.work, fifty())
    elif options.tuning:
        benchmark(options.tuning, options.work, TUNING)
    else:
        demo(Path("demo"), options.work)
        benchmark(Path("l2dm/bench/concepts"), options.work, BENCHMARK)


if __name__ == "__main__":
    main()
