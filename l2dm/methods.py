"""The comparison table as data: a method is a tuner and the ways in which it keeps the past."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Method:
    """One row. ``tuner`` names a file of ``tuners``; the rest says what keeps the past.

    ``rate``: the tuner's learning rate as a multiple of ``learning_rate``, which is that of keys and values.
    ``prior``: prior pairs of "nothing", of the "new" concept's noun, or of "all" nouns so far (L2DM, Eqs.
    2-4). ``memory``: pictures of earlier concepts, chosen "random"ly or by the "rainbow" score (Algorithm 1,
    Eq. 5), or "nothing". Or their own "photos": those are handed over for each learning anew, a world never
    keeps them. ``rehearse``: learn from the memory's pictures (the first sum of L_TAME); without it a row
    that mixes has as many more mixes with plain things, so that the new concept is trained as much.
    ``distil``: elastic concept distillation on the "memory"'s pictures, or distillation on the "new" photos,
    or "nothing". ``elastic``: distillation holds what drifts more; False: all earlier concepts alike.
    ``penalty``: a term on the weights alone, "fisher", "self-regularization" or "nothing", and its
    ``penalty_weight``. ``directions``: keys and values move at right angles only to what earlier prompts and
    class nouns look at (``kept_directions``). ``mix``: learn the new concept beside another thing too; what
    is rehearsed or distilled then stands beside it. ``apart``: every concept has a world of its own, so
    nothing can be forgotten and nothing drawn together.
    """

    text: str
    tuner: str = "key_value"
    rate: float = 1.0
    prior: str = "nothing"
    memory: str = "nothing"
    rehearse: bool = False
    distil: str = "nothing"
    elastic: bool = True
    penalty: str = "nothing"
    penalty_weight: float = 1.0
    directions: bool = False
    mix: bool = False
    apart: bool = False

    def choices(self) -> dict[str, Any]:
        """All of the row but its text."""
        return {name: value for name, value in asdict(self).items() if name != "text"}


#: Where each concept has an adapter of its own, prompts of one concept cannot be forgotten: L2DM's parts act
#: where concepts meet. Prior pairs (beta of Eq. 4) would do nothing here: in a prompt of a plain noun no
#: adapter acts, so it is drawn as by the pretrained model to the last bit, and the gradient of L_PR is zero.
_MEETING = {
    "tuner": "gated_lora",
    "rate": 2.0,
    "mix": True,
    "memory": "rainbow",
    "rehearse": True,
    "distil": "memory",
}

METHODS = {
    # one tuner each, with prior pairs at most: what the later rows are measured against
    "sequential": Method("fine-tuning on one concept after another: the floor"),
    "dreambooth": Method("DreamBooth (arXiv 2208.12242)", tuner="full", rate=0.1, prior="new"),
    "textual-inversion": Method("Textual Inversion (arXiv 2208.01618)", tuner="embedding"),
    "custom-diffusion": Method("Custom Diffusion (arXiv 2212.04488)", prior="new"),
    "svdiff": Method(
        "SVDiff (arXiv 2303.11305) with its Cut-Mix, beside plain things and earlier concepts",
        tuner="spectral",
        rate=20.0,
        prior="new",
        mix=True,
    ),
    "lora": Method(
        "LoRA (arXiv 2106.09685), one adapter for all concepts", tuner="low_rank", rate=2.0, prior="new"
    ),
    # kept by a penalty or by distillation on new data
    "ewc": Method("EWC (arXiv 1612.00796)", penalty="fisher", penalty_weight=1e4),
    "lwf": Method("LwF (arXiv 1606.09282)", distil="new"),
    "c-lora": Method(
        "C-LoRA (arXiv 2304.06027)",
        tuner="stacked",
        rate=2.0,
        penalty="self-regularization",
        penalty_weight=100.0,
    ),
    # kept by growth
    "den": Method("DEN (arXiv 1708.01547), carried over", tuner="widening"),
    "der": Method(
        "DER (arXiv 2103.16788), carried over",
        tuner="stacked",
        rate=2.0,
        prior="new",
        memory="random",
        rehearse=True,
    ),
    "dytox": Method("DyTox (arXiv 2111.11326), carried over", tuner="task_token", rate=2.0),
    "cidm": Method("CIDM's elastic weight aggregation (arXiv 2410.17594)", tuner="aggregated", rate=2.0),
    "gated-kv": Method(
        "each concept at its own words only, learnt beside other things too (ours)",
        tuner="gated_kv",
        rate=2.0,
        mix=True,
    ),
    "gated-kv-without-mixes": Method("each concept at its own words only", tuner="gated_kv", rate=2.0),
    "gated-lora": Method(
        "each concept in all layers, on where a prompt names it (ours)",
        tuner="gated_lora",
        rate=2.0,
        mix=True,
    ),
    # kept by rehearsal
    "replay": Method(
        "replay of randomly chosen generated pictures", prior="new", memory="random", rehearse=True
    ),
    "l2dm-published": Method(
        "L2DM (arXiv 2309.04430)", prior="all", memory="rainbow", rehearse=True, distil="memory"
    ),
    "l2dm-directions": Method(
        "L2DM (arXiv 2309.04430), with kept directions (ours)",
        prior="all",
        memory="rainbow",
        rehearse=True,
        distil="memory",
        directions=True,
    ),
    "l2dm": Method(
        "L2DM (arXiv 2309.04430) over gated adapters (ours): its parts act where concepts meet; no prior "
        "pairs, since a plain noun is "
        "drawn as by the pretrained model to the last bit",
        **_MEETING,
    ),
    "l2dm-without-tame": Method(
        "L2DM over adapters, without rehearsal: as many rows of the new concept beside plain things instead",
        **{**_MEETING, "rehearse": False},
    ),
    "l2dm-uniform-distillation": Method(
        "L2DM over adapters, all earlier concepts distilled alike (arXiv 2309.04430 without its elastic "
        "weights)",
        **{**_MEETING, "elastic": False},
    ),
    "l2dm-without-rainbow": Method(
        "L2DM over adapters, memory chosen at random", **{**_MEETING, "memory": "random"}
    ),
    "l2dm-without-ecd": Method(
        "L2DM over adapters, without elastic concept distillation", **{**_MEETING, "distil": "nothing"}
    ),
    # references: one world a concept bounds the row of the same tuner; joint bounds nothing, since it is not
    # trained to convergence
    "separate": Method(
        "gated-lora, a world for each concept: the ceiling of gated-lora and l2dm",
        tuner="gated_lora",
        rate=2.0,
        mix=True,
        apart=True,
    ),
    "separate-key-value": Method(
        "Custom Diffusion, a world for each concept: the ceiling of keys and values", prior="new", apart=True
    ),
    "joint": Method(
        "Custom Diffusion on the photos of all concepts so far, one lesson a concept and not to convergence: "
        "no ceiling",
        prior="all",
        memory="photos",
        rehearse=True,
    ),
}

#: Tuners with which all that a concept teaches stands under names of its own, ``<token>/...``, and later
#: concepts change none of it: one can be taken out of a world as if it had never been learnt.
SEPARABLE = frozenset(["embedding", "task_token", "aggregated", "gated_kv", "gated_lora"])
