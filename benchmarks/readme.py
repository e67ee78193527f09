"""Write the tables of README and docs, and their figures, from results/*.json and settings:

python -m benchmarks.readme
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import mean, stdev

from PIL import Image

from benchmarks.main import ROOT
from benchmarks.readme_tables import compared, hardware, headline, markdown, measured, read, shipped, sizes_of
from l2dm.evaluation.summary import summary
from l2dm.files import write_whole
from l2dm.report import lifelong, multi, plots
from l2dm.settings import GenerateSettings, LearnSettings
from l2dm.spelling import today

#: rows and columns of the README's own comparison; the whole one is in docs/results/keeping.md
SIX = ("l2dm", "gated-kv", "ewc", "replay", "custom-diffusion", "sequential")
BRIEF = (
    "identification",
    "forgetting",
    "prior_drift",
    "two_concepts_collage",
    "seconds_per_concept",
    "bytes_per_concept",
)
#: a summary's keys that are shown, of a benchmark that has many more
PARTS = ("identification", "image_alignment", "two_concepts")
COMPARISON = (
    "identification",
    "identification_just_learned",
    "forgetting",
    "image_alignment",
    "prior_drift",
    "two_concepts",
    "two_concepts_collage",
    "seconds_per_concept",
    "bytes_per_concept",
)
FIFTY = (
    "identification",
    "identification_just_learned",
    "forgetting",
    "image_alignment",
    "image_forgetting",
    "prior_drift",
)


def tables() -> dict[str, str]:
    """Marker -> Markdown table."""
    main = read("main")
    facts = json.loads((ROOT / "l2dm" / "backbone" / "mini" / "facts.json").read_text())
    found = {"main": measured(main), "base": shipped(facts)}
    if (path := ROOT / "results" / "speed.json").exists():
        found["speed"] = compared(today(json.loads(path.read_text())))
    if (path := ROOT / "results" / "lifelong.json").exists():
        found["parts"] = markdown(*lifelong.ablations(today(json.loads(path.read_text())), PARTS))
    if (path := ROOT / "results" / "comparison.json").exists():
        methods = today(json.loads(path.read_text()))["methods"]
        best_first = dict(sorted(methods.items(), key=lambda row: -row[1]["identification"]["mean"]))
        found["comparison"] = markdown(*lifelong.table(best_first, COMPARISON))
        found["six"] = markdown(*lifelong.table({name: methods[name] for name in SIX}, BRIEF))
    if (path := ROOT / "results" / "fifty.json").exists():
        found["fifty"] = markdown(*lifelong.table(today(json.loads(path.read_text()))["methods"], FIFTY))
    if (path := ROOT / "results" / "multi.json").exists():
        found["multi"] = markdown(*multi.table(today(json.loads(path.read_text()))["compositions"]))
    families = [row for row in read("families").values() if "real" in row]
    found["families"] = markdown(*sizes_of(families))
    found["hardware"] = markdown(*hardware(families))
    found["again"] = markdown(*again(read("lifelong"), read("l2dm-once-more")))
    found |= {"learn": settings(LearnSettings), "generate": settings(GenerateSettings)}
    found["headline"] = headline(read("comparison")["methods"], read("multi")["compositions"], main)
    return found


def again(found: dict, once_more: dict) -> tuple[list[str], list[list[str]]]:
    """Pairs of the rows without a part, less those of L2DM's own second run of the same seeds."""
    own, rows = {run["seed"]: run["two_concepts"] for run in once_more["runs"]}, []
    for method in (name for name in found["methods"] if name.startswith("l2dm-without-")):
        runs = [run for run in found["runs"] if run["method"] == method and run["seed"] in own]
        less = [summary([run])["two_concepts"]["mean"] - own[run["seed"]] for run in runs]
        rows.append([method, str(len(less)), f"{mean(less):+.3f} ± {stdev(less):.3f}"])
    return ["less L2DM's own, once more", "runs", "two together"], rows


def settings(kind: type) -> str:
    """Every setting with its default, its range or choices, and its line of help."""
    rows = [
        [f"`{row['name']}`", f"`{json.dumps(row['default'])}`", row["range"], row["help"]]
        for row in kind.described()
    ]
    return markdown(["setting", "default", "values", "meaning"], rows)


def training(found: dict) -> Image.Image:
    """The denoiser's loss over the hours of its training."""
    figure, axes = plots.plot(8, 3)
    _, losses, seconds = zip(*found["training"]["unet_step_loss_seconds"])
    axes.plot([s / 3600 for s in seconds], losses)
    axes.set(xlabel="hours on 2 CPU cores", ylabel="error of v")
    axes.grid(alpha=0.2)
    return plots.image(figure)


def filled(text: str) -> str:
    """``text`` with each ``<!-- name -->...<!-- /name -->`` holding its table."""
    for name, table in tables().items():
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda m, t=table: f"{m[1]}{t}\n{m[2]}",
            text,
            flags=re.S,
        )
    return text


def pages() -> list[Path]:
    """The README and every page of the docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def main() -> None:
    for path in pages():
        write_whole(path, filled(path.read_text(encoding="utf-8")).encode())
    if (path := ROOT / "results" / "base.json").exists():
        training(today(json.loads(path.read_text()))).save(ROOT / "docs" / "base.png", optimize=True)
    for name, source, draw in (
        ("lifelong", "comparison", curves),
        ("fifty", "fifty", curves),
        ("comparison", "comparison", plots.heat_maps),
    ):
        if (path := ROOT / "results" / f"{source}.json").exists():
            found = today(json.loads(path.read_text()))
            order = sorted(
                found["methods"], key=lambda method: -found["methods"][method]["identification"]["mean"]
            )
            runs = {method: [run for run in found["runs"] if run["method"] == method] for method in order}
            draw(runs, "identification").save(ROOT / "docs" / f"{name}.png", optimize=True)


def curves(runs: plots.By, name: str) -> Image.Image:
    return plots.curves(runs, name, lifelong.UNITS[name])


if __name__ == "__main__":
    main()
