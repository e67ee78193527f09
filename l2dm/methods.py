"""The comparison table as data: a method is a tuner and the ways in which it keeps the past."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """One row. ``tuner`` names a file of ``tuners``; the rest says what keeps the past.

    ``prior``: prior pairs of "nothing", of the "new" concept's noun, or of "all" nouns so far (L2DM, Eqs. 2-4).
    ``memory``: pictures of earlier concepts, chosen "random"ly or by the "rainbow" score (Algorithm 1, Eq. 5), or "nothing".
    ``rehearse``: learn from the memory's pictures (the first sum of L_TAME). ``distil``: elastic concept distillation on them.
    ``apart``: every concept has a world of its own, so nothing can be forgotten and nothing drawn together.
    """

    text: str
    tuner: str = "key_value"
    prior: str = "nothing"
    memory: str = "nothing"
    rehearse: bool = False
    distil: bool = False
    apart: bool = False


METHODS = {
    "sequential": Method("fine-tuning on one concept after another: the floor"),
    "custom-diffusion": Method("Custom Diffusion (arXiv 2212.04488)", prior="new"),
    "textual-inversion": Method("Textual Inversion (arXiv 2208.01618)", tuner="embedding"),
    "separate": Method("Custom Diffusion, a world for each concept: a ceiling", prior="new", apart=True),
    "replay": Method("replay of randomly chosen generated pictures", prior="new", memory="random", rehearse=True),
    "l2dm": Method("L2DM (arXiv 2309.04430)", prior="all", memory="rainbow", rehearse=True, distil=True),
    "l2dm-without-tame": Method("L2DM without rehearsal and earlier priors", prior="new", memory="rainbow", distil=True),
    "l2dm-without-rainbow": Method("L2DM, memory chosen at random", prior="all", memory="random", rehearse=True, distil=True),
    "l2dm-without-ecd": Method("L2DM without elastic concept distillation", prior="all", memory="rainbow", rehearse=True),
}
