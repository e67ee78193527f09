"""The benchmark of several concepts as one HTML page: the table, what went wrong, the same random pictures
for every composition.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from .page import Page

#: heading -> key of a row's summary
COLUMNS = {
    "two concepts": "two_concepts",
    "two of one noun": "two_of_one_noun",
    "three concepts": "three_concepts",
    "two plain nouns (base)": "two_plain_nouns",
    "text alignment": "text_alignment",
}
KINDS = {
    "two_concepts": "Two concepts",
    "two_of_one_noun": "Two concepts of one noun",
    "three_concepts": "Three concepts",
    "two_plain_nouns": "Two plain nouns, drawn by the base alone",
    "interactions": "Sixty prompts of interaction, attributes and counts",
}
FLAGS = {
    "present": "all present",
    "own_looks": "own looks",
    "none_doubled": "none doubled",
    "no_leak": "no leak",
}


ARRANGED = {"success": "success", "arranged": "above and below as asked"}


def cell(found: dict[str, Any] | None, places: int = 3) -> str:
    """Mean ± spread over the seeds, or a dash."""
    return f"{found['mean']:.{places}f} ± {found['std']:.{places}f}" if found else "-"


def table(compositions: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows: success with several concepts, and what it costs where there is one."""
    alone = {"identification": 3, "text_alignment": 1}
    rows = [
        [
            name,
            *(cell(found.get(key), 1 if key == "text_alignment" else 3) for key in COLUMNS.values()),
            *(cell(found.get("one_concept", {}).get(key), places) for key, places in alone.items()),
            f"{found['time_over_plain']:.2f}" if "time_over_plain" in found else "-",
        ]
        for name, found in compositions.items()
    ]
    return [
        "composition",
        *COLUMNS,
        "one concept: identification",
        "one concept: text alignment",
        "time over plain",
    ], rows


def write_page(result: dict[str, Any], samples: dict[str, Any], target: Path) -> Path:
    """The page of ``multi.json``'s content, with ``samples`` as ``l2dm.bench.multi.samples`` gives them."""
    page = Page(
        "Several concepts in one picture, compared",
        "Every composition draws the same prompts from the same seeds in the same world. "
        "Shares of pictures that succeed, as the judge sees them: everything named is present, each with its "
        "own looks, none doubled, "
        "no leak. Mean ± standard deviation over seeds.",
    )
    page.heading("Success")
    page.table(*table(result["compositions"]))
    for kind, title in KINDS.items():
        rows = [
            [
                name,
                *(cell(found["verdicts"][kind][flag]) for flag in FLAGS),
                cell(found.get("pasted", {}).get(kind)),
            ]
            for name, found in result["compositions"].items()
            if kind in found["verdicts"]
        ]
        if kind == "interactions":
            rows = [
                [name, *(cell(found[kind].get(flag)) for flag in ARRANGED)]
                for name, found in result["compositions"].items()
                if kind in found
            ]
        if not rows and kind not in samples:
            continue
        page.heading(title)
        if rows:
            page.table(
                [
                    "composition",
                    *(ARRANGED if kind == "interactions" else FLAGS).values(),
                    *([] if kind == "interactions" else ["pasted"]),
                ],
                rows,
            )
        kept = samples.get(kind, {})
        for i, sample in enumerate(next(iter(kept.values()), [])):
            page.text(f"Picture {i + 1}, chosen at random: “{sample['prompt']}”, seed {sample['seed']}.")
        for name, files in kept.items():
            page.pictures([Image.open(s["file"]).convert("RGB") for s in files], name)
            if looked := [Image.open(s["attention"]).convert("RGB") for s in files if "attention" in s]:
                page.pictures(looked, f"{name}: where it looked for each")
    page.heading("How it was measured")
    page.table(["setting", "value"], [[k, str(v)] for k, v in result["settings"]["plan"].items()])
    page.table(
        ["composition", "settings"],
        [[k, ", ".join(f"{a} {b}" for a, b in v.items())] for k, v in result["settings"]["generate"].items()],
    )
    page.table(
        ["the judge, on unseen things", ""],
        [[k, f"{v:.3f}" if isinstance(v, float) else str(v)] for k, v in result["settings"]["judge"].items()],
    )
    return page.save(target)
