"""From registries to the shipped weights, taking up whatever an earlier run left.

python -m mini_base                                   all of it, on this machine's cores or GPU (make base)

On a GPU without internet, one command there:
python -m mini_base pack --out PACK                   here: all that it needs, less than 64 MiB
pip install PACK/wheels/*.whl; python -m mini_base train --work PACK --deliver FOLDER [--minutes 25]
                                                      there: files of at most 16 MiB; the same command takes
                                                      it up again
python -m mini_base package                           here, once FOLDER's files lie in .work/base/finished
"""

from __future__ import annotations

import argparse
from pathlib import Path

STEPS = ("all", "autoencoder", "clip", "unet", "package", "pack", "train")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m mini_base", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "step", choices=STEPS, default="all", nargs="?", help="one step alone; train: clip and unet"
    )
    parser.add_argument(
        "--work", type=Path, default=Path(".work/base"), help="folder for downloads and training state"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("l2dm/backbone/mini"),
        help="where the finished base goes, or the pack",
    )
    parser.add_argument(
        "--steps",
        type=int,
        help="optimizer steps of each stage of the denoiser; more than before takes it up again",
    )
    parser.add_argument(
        "--minutes", type=float, help="of each stage of the denoiser, which is kept as it is then"
    )
    parser.add_argument("--deliver", type=Path, help="folder to copy what was trained to")
    options = parser.parse_args(arguments)

    from . import clip, corpus, latents, pack, package, unet

    if options.step == "pack":
        if options.out == parser.get_default("out"):
            parser.error("pack: say where to with --out PACK")
        return pack.pack(options.work, options.out)
    wanted = {"all": ("autoencoder", "clip", "unet", "package"), "train": ("clip", "unet")}.get(
        options.step, (options.step,)
    )
    icons = corpus.load_icons(options.work)
    print(f"corpus: {len(icons)} icons of {len(corpus.NOUNS)} nouns", flush=True)
    if "autoencoder" in wanted:
        latents.load_autoencoder(icons, options.work)
    if "clip" in wanted:
        clip.train(icons, options.work)
    if "unet" in wanted:
        unet.train(icons, options.work, options.steps, options.minutes)
    if options.deliver:
        pack.deliver(options.work, options.deliver)
    if "package" in wanted:
        package.write(icons, options.work, options.out)


if __name__ == "__main__":
    main()
