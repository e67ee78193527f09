"""``python -m mini_base``: from registries to the shipped weights, taking up whatever an earlier run left."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "step",
        choices=["all", "corpus", "autoencoder", "clip", "unet", "decoder", "package"],
        default="all",
        nargs="?",
    )
    parser.add_argument(
        "--work", type=Path, default=Path(".work/base"), help="folder for downloads and training state"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("l2dm/backbone/mini"), help="where the finished base goes"
    )
    parser.add_argument(
        "--go-on",
        action="store_true",
        help="where --work holds no training state, begin from the weights in --out",
    )
    parser.add_argument(
        "--steps",
        type=int,
        help="optimizer steps of the UNet in all; more than before takes its training up again",
    )
    options = parser.parse_args()

    from . import corpus

    if options.go_on:
        from . import package

        package.adopt(options.work, options.out)
    wanted = (
        ["corpus", "autoencoder", "clip", "unet", "decoder", "package"]
        if options.step == "all"
        else [options.step]
    )
    icons = corpus.load_icons(options.work)
    print(f"corpus: {len(icons)} icons of {len(corpus.NOUNS)} nouns")
    if "autoencoder" in wanted:
        from . import autoencoder

        autoencoder.train(icons, options.work / "autoencoder")
    if "clip" in wanted:
        from . import clip

        clip.train(icons, options.work)
    if "unet" in wanted:
        from . import unet

        unet.train(icons, options.work, steps=options.steps or unet.STEPS)
    if "decoder" in wanted:
        from . import decoder

        decoder.train(icons, options.work)
    if "package" in wanted:
        from . import package

        package.write(icons, options.work, options.out)


if __name__ == "__main__":
    main()
