"""The settings of learning and of drawing, and their TOML files."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .checked import Checked, Value, reading_earlier_names, setting
from .errors import SettingsError, because, first_line
from .methods import METHODS

COMPOSITIONS = [
    "none",
    "caa",
    "oaa",
    "l2dm",
    "artists",
    "attend-and-excite",
    "self-cross",
    "structure",
    "mudi",
    "confined",
    "collage",
    "auto",
]
GUIDANCES = COMPOSITIONS  # as it was called, until 0.3.0
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
TRACKERS = ("none", "tensorboard", "wandb")
#: Settings that say how a lesson is watched, not what is learnt.
WATCHING = ("sample_every", "sample_prompt", "keep_every", "tracker", "tracker_folder")
#: What ``masks`` may be beside a folder.
OWN_MASKS = ("beside", "alpha")
#: Settings that name a place of the user's, or send something there: for the user alone to give, not for a
#: base or a page of the studio.
PLACES = ("class_pictures", "masks", "tracker", "tracker_folder")
DEVICES = ("auto", "cuda", "mps", "cpu")


def check_strength(strength: float) -> float:
    """``strength``: times what was learnt, of an export. Raises SettingsError beyond [-10, 10], and for 0."""
    if not -10 <= strength <= 10 or strength == 0:
        raise SettingsError(f"strength = {strength:g}: expected a number between -10 and 10, not 0")
    return strength


def read_toml(path: Path, section: str) -> dict[str, Any]:
    """Table ``[section]`` of a TOML file, or its top level when it has no tables."""
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such settings file") from None
    except OSError as error:
        raise SettingsError(f"{path}: {because(error)}") from None
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: not a readable TOML file ({first_line(error)})") from None
    tables = {k for k, v in content.items() if isinstance(v, dict)}
    if unknown := tables - {"learn", "generate"}:
        raise SettingsError(f"{path}: unknown table [{sorted(unknown)[0]}]; expected [learn] or [generate]")
    return content.get(section, {}) if tables else content


@reading_earlier_names
@dataclass(frozen=True)
class LearnSettings(Checked):
    """How one concept is learnt. The defaults are for Stable Diffusion; a base may carry its own in
    ``l2dm.json``.
    """

    steps: int = setting(250, 1, 100_000, text="optimizer steps")
    batch: int = setting(2, 1, 256, text="photos per step; as many prior pictures come on top")
    learning_rate: float = setting(5e-5, 1e-8, 1.0, text="of the key and value projections (AdamW)")
    token_learning_rate: float = setting(5e-3, 0.0, 1.0, text="of the new token's embedding (AdamW)")
    lr_scheduler: str = setting(
        "constant", choices=("constant", "linear", "cosine"), text="how both rates fall over the steps, to 0"
    )
    prior_weight: float = setting(1.0, 0.0, 100.0, text="weight of prior preservation; 0 turns it off")
    prior_pictures: int = setting(
        32, 1, 10_000, text="pictures of the class noun drawn once by the pretrained model"
    )
    prior_steps: int = setting(20, 1, 1000, text="sampling steps of the prior pictures")
    method: str = setting(
        "gated-lora",
        choices=METHODS,
        text="a row of l2dm/methods.py: what is tuned, what keeps the past",
    )
    replay_weight: float = setting(1.0, 0.0, 100.0, text="alpha: weight of rehearsing earlier concepts")
    distil_weight: float = setting(
        1.0, 0.0, 1000.0, text="gamma: weight of distillation from the model as it was"
    )
    attention_weight: float = setting(
        0.0, 0.0, 1000.0, text="weight, within gamma, of distilling cross-attention outputs too"
    )
    kept_share: float = setting(
        0.99,
        0.0,
        1.0,
        text="share of the earlier prompts' feature energy that key and value updates must not touch; 0: "
        "none",
    )
    penalty_weight: float = setting(
        1.0, 0.0, 1e9, text="of the method's own penalty on weights, as a multiple of its row's"
    )
    fisher_samples: int = setting(
        64, 1, 100_000, text="gradients from which EWC estimates a concept's Fisher diagonal"
    )
    rank: int = setting(
        32,
        1,
        1024,
        text="of adapters of keys and values (of all layers: a quarter); with lora the first concept's "
        "counts",
    )
    vectors: int = setting(
        1, 1, 16, text="of a new token: several hold more of a thing, and take as many of a prompt's words"
    )
    memory_candidates: int = setting(
        4, 1, 1000, text="eta: pictures drawn for each entry of the short-term memory"
    )
    memory_budget: int = setting(
        32, 0, 1_000_000, text="pictures drawn for the memory before a concept; 0: Algorithm 1 to the letter"
    )
    rainbow_similarity_weight: float = setting(
        1.0, 0.0, 100.0, text="beta_S: likeness against diversity in the rainbow score"
    )
    mixes: int = setting(
        2, 0, 256, text="rows a step of the concept beside another thing, with methods that mix; 0: none"
    )
    class_pictures: str = setting(
        "", text="a folder of pictures of the noun, captions beside them, instead of drawn prior pairs"
    )
    masks: str = setting(
        "",
        text="white is the subject: a folder with the photos' names, or beside (photo-masklabel.png), or "
        "alpha",
    )
    mask_background: float = setting(
        0.1, 0.0, 1.0, text="weight of the error where a mask is black; it is 1 where it is white"
    )
    buckets: bool = setting(
        False, text="learn each photo in its own aspect ratio, up to 9:4, not its centre square"
    )
    flip: bool = setting(
        False, text="mirror photos by chance; not for what has a left and a right, or letters"
    )
    captions_only: bool = setting(
        False, text="a photo with a caption is learnt by it alone, not also by a plain sentence"
    )
    seed: int = setting(0, 0, 2**63 - 1, text="fixes everything that is random")
    precision: str = setting(
        "auto",
        choices=PRECISIONS,
        text="of frozen weights and products; auto: half for large bases, where it is fast",
    )
    device: str = setting(
        "auto", choices=DEVICES, text="what learns; auto: CUDA where there is one, else the CPU"
    )
    accumulate: int = setting(
        1,
        1,
        1024,
        text="shares of a step, one after another: as a batch so many times as large, in the memory of one",
    )
    optimizer: str = setting(
        "adamw", choices=("adamw", "adamw-8bit"), text="adamw-8bit: by bitsandbytes, less memory"
    )
    gradient_checkpointing: bool = setting(
        False, text="work out inner results again in the backward: less memory, a third more time"
    )
    compile: bool = setting(
        False, text="compile the denoiser: minutes before the first step, then faster; for thousands of steps"
    )
    threads: int = setting(
        0,
        0,
        1024,
        text="of the processor; 0: OMP_NUM_THREADS, or as many as are free, fewer when others come",
    )
    checkpoint_every: int = setting(25, 1, 100_000, text="steps between checkpoints")
    sample_every: int = setting(
        0, 0, 100_000, text="steps between sample pictures, kept in the world; 0: none"
    )
    sample_prompt: str = setting(
        "", text="what samples show; several are parted by |; empty: the concept alone"
    )
    keep_every: int = setting(
        0, 0, 100_000, text="steps between weights that are kept to choose from with l2dm pick; 0: none"
    )
    tracker: str = setting(
        "none", choices=TRACKERS, text="who is told losses and samples too, by accelerate's trackers"
    )
    tracker_folder: str = setting("runs", text="where the tracker writes; the world does not know of it")
    report_pictures: int = setting(
        4, 0, 64, text="pictures of each examined concept and noun for the report; 0: no report"
    )
    report_concepts: int = setting(
        6, 0, 100_000, text="earlier concepts examined after a concept, those longest not examined first"
    )
    keep_if_forgetting_below: float = setting(
        0.0, 0.0, 200.0, text="points of likeness an earlier concept may lose; 0: any"
    )

    def kept(self) -> dict[str, Value]:
        """As it is kept with what was learnt: of a folder of the user's, that there was one."""
        given = {"masks": self.masks, "class_pictures": self.class_pictures}
        folders = {name: "folder" for name, place in given.items() if place not in ("", *OWN_MASKS)}
        watched = {
            "sample_prompt": "",
            "tracker_folder": "",
        }  # may name other concepts, or a place of the user's
        return {**self.as_dict(), **folders, **watched}


@reading_earlier_names
@dataclass(frozen=True)
class GenerateSettings(Checked):
    """How a prompt is drawn. ``layout`` may be a mapping too: ``{"<rex>": "left", "<pip>": (0.5, 0.2, 0.9,
    0.8)}``.
    """

    def __post_init__(self) -> None:
        if isinstance(self.layout, Mapping):
            object.__setattr__(self, "layout", ", ".join(map(_entry, self.layout.items())))
        super().__post_init__()

    n: int = setting(4, 1, 1024, text="pictures")
    steps: int = setting(25, 1, 1000, text="sampling steps")
    sampler: str = setting(
        "base", choices=("base", "dpm-solver"), text="the base's own sampler, or DPM-Solver++ (2M)"
    )
    guidance_scale: float = setting(
        7.5, 0.0, 100.0, text="classifier-free guidance; 1 and below turns it off"
    )
    seed: int = setting(0, 0, 2**63 - 1, text="picture i is drawn from seed + i")
    negative_prompt: str = setting("", text="what to keep away from")
    height: int = setting(0, 0, 4096, text="pixels; 0: the base's own")
    width: int = setting(0, 0, 4096, text="pixels; 0: the base's own")
    batch: int = setting(4, 1, 256, text="pictures drawn at once")
    threads: int = setting(0, 0, 1024, text="of the processor; 0: OMP_NUM_THREADS, or as many as are free")
    precision: str = setting(
        "auto",
        choices=PRECISIONS,
        text="of weights and products; auto: half for large bases, where it is fast",
    )
    device: str = setting(
        "auto", choices=DEVICES, text="what draws; auto: CUDA where there is one, else the CPU"
    )
    offload: bool = setting(
        False,
        text="keep in an accelerator's memory only the part of the base that works: slower, for small cards",
    )
    composition: str = setting(
        "auto",
        choices=COMPOSITIONS,
        text="what keeps several concepts apart; auto: l2dm for two and more, else none",
    )
    subjects: str = setting(
        "",
        text="the prompt's plain nouns that the composition looks after, with commas; empty: those found in "
        "it",
    )
    layout: str = setting(
        "",
        text="where each thing goes, by hand: <rex>: left, <pip>: 0.5,0.2,0.9,0.8 (a word or x0,y0,x1,y1 in "
        "shares of the picture)",
    )
    confine: bool = setting(
        False,
        text="of what moves latents, and of a collage's second half: each thing acts in its own part of the "
        "picture alone; of l2dm and confined always",
    )
    guidance_step: float = setting(
        10.0, 0.0, 1e6, text="s_t: how far the latents are moved, falling by sqrt(1/2) over the steps"
    )
    guidance_until: float = setting(0.4, 0.0, 1.0, text="share of the steps that are guided, from the first")
    guidance_every: int = setting(2, 1, 1000, text="every how many of these steps is guided")
    guidance_repeats: int = setting(1, 1, 100, text="moves before each guided step")
    guidance_refinements: int = setting(
        20, 0, 1000, text="most moves that attend-and-excite makes at steps 0, 1/5, 2/5 for a neglected thing"
    )
    composition_loss_threshold: float = setting(
        0.0, 0.0, 1e6, text="a picture whose loss is this small is not moved further"
    )
    unmix_weight: float = setting(1.0, 0.0, 1e6, text="lambda_u, of the concepts-level unmix loss")
    attend_weight: float = setting(1.0, 0.0, 1e6, text="lambda_d, of the dynamic attend loss")
    orthogonal_weight: float = setting(1.0, 0.0, 1e6, text="lambda_o, of the orthogonal attention artist")


def _entry(place: tuple[str, Any]) -> str:
    name, where = place
    return f"{name}: {where if isinstance(where, str) else ','.join(map(str, where))}"
