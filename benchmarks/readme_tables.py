"""The tables of README and docs that are made here, from what results/*.json say."""

from __future__ import annotations

import json

from benchmarks.main import ROOT
from l2dm.spelling import today

#: what people's GPUs have
SIZES = (8, 12, 24)


def read(name: str) -> dict:
    return today(json.loads((ROOT / "results" / f"{name}.json").read_text()))


def markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def measured(main: dict) -> str:
    """The table of results/main.json, with the command that measured each row."""
    each = main["settings"]["seconds_per_concept"]["each"]
    rows = [
        (
            "learning one concept, slowest of three, set-up and report card included",
            f"{main['seconds_per_concept']} s ({main['steps']} steps of {main['batch']} photos; all: "
            f"{', '.join(map(str, each))} s)",
            "time",
        ),
        (
            "`kill -9` at random moments of learning: the world opens, before or after",
            f"{main['kills_survived']} of {main['kills']}",
            "kills",
        ),
        (
            "killed and taken up again against never killed: largest difference of any weight",
            f"{main['resume_max_difference']:g}",
            "kills",
        ),
        (
            "malformed inputs answered with one clear error, nothing changed",
            f"{main['clear_errors']} of {main['malformed_inputs']}",
            "malformed",
        ),
        (
            "SD 1.5's architecture at 512 px (random weights): one learning step, encoding of 5 photos "
            "included",
            f"{main['sd15_step_seconds']} s",
            "sd15",
        ),
        (
            f"the same, peak memory of the whole process, {main['settings']['sd15_peak_gib']['precision']}",
            f"{main['sd15_peak_gib']} GiB",
            "sd15",
        ),
    ]
    head = "| on 2 CPU cores | measured | `python -m benchmarks.main` |\n|---|---|---|\n"
    return head + "\n".join(f"| {what} | {figure} | `{command}` |" for what, figure, command in rows)


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


def headline(methods: dict, compositions: dict, main: dict) -> str:
    """The README's three numbers: kept, together, cost."""
    ours, floor = methods["l2dm"], methods["sequential"]
    pairs = {name: compositions[name]["two_concepts"]["mean"] for name in ("collage", "none")}
    rows = [
        (
            "kept",
            f"{ours['identification']['mean']:.1%}",
            "of what L2DM over adapters draws after ten concepts is known for the right one; sequential "
            f"fine-tuning {floor['identification']['mean']:.1%}",
            "keeping",
        ),
        (
            "together",
            f"{pairs['collage']:.1%}",
            f"of the pairs in one prompt come out whole as a collage; plainly sampled {pairs['none']:.1%}",
            "together",
        ),
        (
            "cost",
            f"{main['seconds_per_concept']} s",
            "for the slowest of three concepts on two cores; "
            f"{ours['bytes_per_concept']['mean'] / 1e6:.1f} MB a concept",
            "cost",
        ),
    ]
    return markdown(
        ["", "", "what"],
        [[f"[{name}](docs/results/{page}.md)", f"**{figure}**", text] for name, figure, text, page in rows],
    )


def compared(found: dict) -> str:
    """How fast we are beside our peers."""
    rows = [
        ("training pictures a second, over a plain Custom Diffusion loop's", "throughput_ratio", ".2f"),
        (
            "the same, where that loop takes photos and class pictures in two forwards",
            "throughput_ratio_two_forwards",
            ".2f",
        ),
        (
            "ours compiled (`compile`), over the plain loop's, after the first step",
            "throughput_ratio_compiled",
            ".2f",
        ),
        ("peak memory of learning, over that loop's", "memory_ratio", ".2f"),
        ("the same, over that loop's with two forwards", "memory_ratio_two_forwards", ".2f"),
        (
            "operations a second in a step, over the machine's matrix product in the same precision",
            "matrix_rate_fraction",
            ".1%",
        ),
        ("the same, compiled", "matrix_rate_fraction_compiled", ".1%"),
        (
            "time of drawing two plain nouns guided by `artists` in half of the steps, over plain sampling",
            "guided_time_ratio_ours",
            ".2f",
        ),
        (
            "the same work by diffusers' Attend-and-Excite pipeline",
            "guided_time_ratio_attend_and_excite",
            ".2f",
        ),
    ]
    shown = [[what, format(found[key], form)] for what, key, form in rows]
    return markdown(["against its peers, one run on 2 CPU cores", "ratio"], shown)


def judged(found: dict) -> list[tuple[str, str]]:
    """What the judge says of the base."""
    styles = found["styles_in_32_samples"]
    return [
        ("autoencoder, PSNR on photographs", f"{found['psnr_photos_db']} dB"),
        ("a noun alone is the right one (judge)", f"{found['noun_accuracy']:.1%}"),
        (
            "with a background phrase: noun right; background right",
            f"{found['noun_accuracy_with_background']:.1%}; {found['background_accuracy']:.1%}",
        ),
        (
            "two nouns: at least one right; both right",
            f"{found['pair_at_least_one']:.1%}; {found['pair_both']:.1%}",
        ),
        ("drawing styles among 32 samples of a noun", f"{styles['mean']:.1f} of {styles['of']}"),
        (
            f"one picture, batch of four, threads: {found['settings'].get('threads', 1)}",
            f"{found['seconds_per_picture']} s",
        ),
    ]


def verdicts(found: dict) -> list[tuple[str, str]]:
    """How many composed pictures the judge's verdict on several concepts calls a success: clean ones,
    degraded ones.
    """
    shown = {
        "accepts, two concepts, both there (clean; degraded)": "two_concepts",
        "accepts, three concepts, all there": "three_concepts",
        "false accepts, one missing": "one_missing",
        "false accepts, a look-alike in place of a concept": "one_look_alike",
        "false accepts, one there twice": "one_doubled",
    }
    return [
        (
            f"the judge's verdict {what}",
            "; ".join(f"{found[look][kind]:.1%}" for look in ("clean", "worn")),
        )
        for what, kind in shown.items()
    ]


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
