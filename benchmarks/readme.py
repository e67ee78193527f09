"""Write the tables of README and docs, and their figures, from results/*.json and settings:  python -m benchmarks.readme"""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import mean, stdev

from PIL import Image

from benchmarks.main import ROOT
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
#: what people's GPUs have
SIZES = (8, 12, 24)
#: a summary's keys that are shown, of a benchmark that has many more
PARTS = ("identification", "image_alignment", "two_concepts")
COMPARISON = (
    "identification", "identification_just_learned", "forgetting", "image_alignment", "prior_drift", "two_concepts", "two_concepts_collage",
    "seconds_per_concept", "bytes_per_concept",
)  # fmt: skip
FIFTY = (
    "identification",
    "identification_just_learned",
    "forgetting",
    "image_alignment",
    "image_forgetting",
    "prior_drift",
)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def tables() -> dict[str, str]:
    """Marker -> Markdown table."""
    main = json.loads((ROOT / "results" / "main.json").read_text())
    facts = json.loads((ROOT / "l2dm" / "backbone" / "mini" / "facts.json").read_text())
    each = main["settings"]["seconds_per_concept"]["each"]
    rows = [
        ("learning one concept, slowest of three, set-up and report card included",
         f"{main['seconds_per_concept']} s ({main['steps']} steps of {main['batch']} photos; all: {', '.join(map(str, each))} s)", "time"),
        ("`kill -9` at random moments of learning: the world opens, before or after", f"{main['kills_survived']} of {main['kills']}", "kills"),
        ("killed and taken up again against never killed: largest difference of any weight", f"{main['resume_max_difference']:g}", "kills"),
        ("malformed inputs answered with one clear error, nothing changed", f"{main['clear_errors']} of {main['malformed_inputs']}", "malformed"),
        ("SD 1.5's architecture at 512 px (random weights): one learning step, encoding of 5 photos included", f"{main['sd15_step_seconds']} s", "sd15"),
        (f"the same, peak memory of the whole process, {main['settings']['sd15_peak_gib']['precision']}", f"{main['sd15_peak_gib']} GiB", "sd15"),
    ]  # fmt: skip
    measured = "| on 2 CPU cores | measured | `python -m benchmarks.main` |\n|---|---|---|\n"
    measured += "\n".join(f"| {what} | {figure} | `{command}` |" for what, figure, command in rows)
    base = shipped(facts)
    found = {"main": measured, "base": base}
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


def shipped(facts: dict) -> str:
    """The table of the shipped base and its judge."""
    minutes = sum(facts["training_seconds"].values()) / 60
    shown = [
        ("size of all weights, fp16", f"{facts['megabytes']} MB"),
        ("nouns, drawings they were learnt from", f"{facts['nouns']}, {facts['icons']}"),
        ("pictures the UNet was trained on", f"{facts['training_pictures']['unet']:,}"),
        ("training time of all parts, 2 CPU cores", f"{minutes:.0f} min"),
        ("autoencoder, PSNR on scenes of held-out icons", f"{facts['psnr_unseen_icons_db']} dB"),
        ("CLIP pair, caption to picture, R@1 of 1,000", f"{facts['retrieval_r1_of_1000']:.1%}"),
    ]
    if (path := ROOT / "results" / "base.json").exists():
        shown += judged(today(json.loads(path.read_text())))
    judge = json.loads((ROOT / "l2dm" / "evaluation" / "judge" / "judge.json").read_text())["measured"]
    shown += [
        (
            "the judge, clean pictures: which of 100 unseen things, from 4 references",
            f"{judge['identity_top1']:.1%}",
        ),
        ("the same, pictures degraded as a small denoiser draws", f"{judge['worn']['identity_top1']:.1%}"),
        (
            "the judge, clean pictures: nouns of the drawings that the base learnt",
            f"{judge['noun_top1']:.1%}",
        ),
        (
            "the judge, clean pictures: presence in two-object pictures of unseen things, F1",
            f"{judge['presence_f1']:.3f}",
        ),
        ("the judge: background", f"{judge['background_top1']:.1%}"),
        *verdicts(judge["verdict"]),
    ]
    return "| the mini base | |\n|---|---|\n" + "\n".join(f"| {what} | {figure} |" for what, figure in shown)


def read(name: str) -> dict:
    return today(json.loads((ROOT / "results" / f"{name}.json").read_text()))


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


def sizes_of(families: list[dict]) -> tuple[list[str], list[list[str]]]:
    """What each family that was run in its published size takes."""
    head = ["family", "parameters", "held in", "loaded, GiB", "learning, GiB", "s a step", "drawing, GiB"]
    return head, [
        [
            row["name"],
            f"{row['real']['parameters'] / 1e9:.2f} G",
            row["real"]["dtype"],
            *(
                f"{row['real'].get(key, 'not measured')}"
                for key in ("loaded_gib", "learn_gib", "learn_seconds", "draw_gib")
            ),
        ]
        for row in families
    ]


def _peak(real: dict) -> float:
    """GiB of a whole lesson, or where that was not measured of one step."""
    return real.get("lesson_gib", real["learn_gib"])


def hardware(families: list[dict]) -> tuple[list[str], list[list[str]]]:
    """For each size of memory the families that were measured to learn within it."""
    rows = [["two CPU cores", "the shipped base"]]
    for size in SIZES:
        fitting = [
            f"{row['name']} ({_peak(row['real'])} GiB)" for row in families if _peak(row["real"]) <= size
        ]
        rows.append([f"{size} GB", ", ".join(fitting)])
    return ["memory", "what learns within it"], rows


def headline(methods: dict, compositions: dict, main: dict) -> str:
    """The README's three numbers: kept, together, cost."""
    ours, floor = methods["l2dm"], methods["sequential"]
    pairs = {name: compositions[name]["two_concepts"]["mean"] for name in ("collage", "none")}
    rows = [
        ("kept", f"{ours['identification']['mean']:.1%}",
         "of what L2DM over adapters draws after ten concepts is known for the right one; sequential fine-tuning "
         f"{floor['identification']['mean']:.1%}", "keeping"),
        ("together", f"{pairs['collage']:.1%}", f"of the pairs in one prompt come out whole as a collage; plainly sampled {pairs['none']:.1%}", "together"),
        ("cost", f"{main['seconds_per_concept']} s",
         f"for the slowest of three concepts on two cores; {ours['bytes_per_concept']['mean'] / 1e6:.1f} MB a concept", "cost"),
    ]  # fmt: skip
    return markdown(
        ["", "", "what"],
        [[f"[{name}](docs/results/{page}.md)", f"**{figure}**", text] for name, figure, text, page in rows],
    )


def compared(found: dict) -> str:
    """How fast we are beside our peers."""
    rows = [
        ("training pictures a second, over a plain Custom Diffusion loop's", f"{found['throughput_ratio']:.2f}"),
        ("the same, where that loop takes photos and class pictures in two forwards", f"{found['throughput_ratio_two_forwards']:.2f}"),
        ("ours compiled (`compile`), over the plain loop's, after the first step", f"{found['throughput_ratio_compiled']:.2f}"),
        ("peak memory of learning, over that loop's", f"{found['memory_ratio']:.2f}"),
        ("the same, over that loop's with two forwards", f"{found['memory_ratio_two_forwards']:.2f}"),
        ("operations a second in a step, over the machine's matrix product in the same precision", f"{found['matrix_rate_fraction']:.1%}"),
        ("the same, compiled", f"{found['matrix_rate_fraction_compiled']:.1%}"),
        ("time of drawing two plain nouns guided by `artists` in half of the steps, over plain sampling", f"{found['guided_time_ratio_ours']:.2f}"),
        ("the same work by diffusers' Attend-and-Excite pipeline", f"{found['guided_time_ratio_attend_and_excite']:.2f}"),
    ]  # fmt: skip
    return markdown(["against its peers, one run on 2 CPU cores", "ratio"], [list(row) for row in rows])


def judged(found: dict) -> list[tuple[str, str]]:
    """What the judge says of the base."""
    styles = found["styles_in_32_samples"]
    return [
        ("autoencoder, PSNR on photographs", f"{found['psnr_photos_db']} dB"),
        ("a noun alone is the right one (judge)", f"{found['noun_accuracy']:.1%}"),
        ("with a background phrase: noun right; background right", f"{found['noun_accuracy_with_background']:.1%}; {found['background_accuracy']:.1%}"),
        ("two nouns: at least one right; both right", f"{found['pair_at_least_one']:.1%}; {found['pair_both']:.1%}"),
        ("drawing styles among 32 samples of a noun", f"{styles['mean']:.1f} of {styles['of']}"),
        (f"one picture, batch of four, threads: {found['settings'].get('threads', 1)}", f"{found['seconds_per_picture']} s"),
    ]  # fmt: skip


def verdicts(found: dict) -> list[tuple[str, str]]:
    """How many composed pictures the judge's verdict on several concepts calls a success: clean ones, worn ones."""
    shown = {
        "accepts, two concepts, both there (clean; degraded)": "two_concepts", "accepts, three concepts, all there": "three_concepts",
        "false accepts, one missing": "one_missing", "false accepts, a look-alike in place of a concept": "one_look_alike",
        "false accepts, one there twice": "one_doubled",
    }  # fmt: skip
    return [
        (
            f"the judge's verdict {what}",
            "; ".join(f"{found[wear][kind]:.1%}" for wear in ("clean", "worn")),
        )
        for what, kind in shown.items()
    ]


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
