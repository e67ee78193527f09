"""How concepts leave a world, and how they come into one: the verbs of export and import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self, Unpack, cast

from ..changes import LearnChanges
from ..concept import Photos
from ..concept.words import check_noun, check_token
from ..errors import TokenError, os_errors
from .bundle import read_bundle
from .examining import OnProgress
from .exporting import Export, export
from .importing import Arrived, merge, move, take
from .loaded import Loaded
from .manifest import Version, entry
from .parcel import Wanted
from .picking import pick
from .renaming import version_renamed

if TYPE_CHECKING:
    from ..backbone.backbone import DiffusionPipeline
    from .world import World


class Travels(Loaded):
    """What a world does with files of other programs, and with other worlds."""

    @property
    def _world(self) -> World:
        """Itself: these verbs are the world's own."""
        return cast("World", self)

    def export(
        self,
        *tokens: str,
        format: str = "lora",
        out: str | Path | None = None,
        dtype: str = "",
        strength: float = 1.0,
    ) -> Export:
        """Write ``tokens``, or all concepts, for other programs into the new folder ``out``, whole or not at
        all, with a sidecar ``export.json``.

        ``format``: "lora" (kohya's keys), "diffusers" (peft's), "kohya" (as "lora", but of SD 3 as kohya's
        sd-scripts write it), "embedding", "custom-diffusion", "pipeline" (a diffusers folder with them merged
        in), or "world" (one zip of everything, for ``import_world``). ``dtype``: "float32", "float16",
        "bfloat16"; "" as they are kept. ``strength``: times what was learnt, in [-10, 10]. Raises TokenError,
        SettingsError (with the formats that do), ExchangeError.
        """
        return export(self._world, list(tokens), format, out, dtype, strength)

    def pipeline(
        self, sampler: str = "base", precision: str | None = None, device: str | None = None
    ) -> DiffusionPipeline:
        """diffusers' own pipeline of the base's family, with this world's concepts gated in: prompts that
        name a token, as ``pipe("a <rex> dog")``, are read with its vectors and drawn with its adapter, all
        others as by the bare base, to the last bit. Everything that the pipeline's call takes may be given;
        what keeps several concepts apart is ``generate``'s alone.

        ``sampler``: "base" or "dpm-solver". It shares its parts with the world: learning and importing change
        what it draws. ``save_pretrained`` raises ExchangeError, since gates have no place in a folder;
        ``export(format="pipeline")`` merges them.
        """
        return self.backbone(precision, device).pipeline(sampler)

    def rename(self, token: str, to: str) -> Version:
        """Call a concept otherwise, as a new version: its weights, what is remembered of it and its place
        among the others stay, and so do all pictures, bit for bit. ``undo`` takes it back. Raises TokenError
        for a token that is taken, here or in the base itself.
        """
        check_token(to)
        with self._writing():
            if token not in self.concepts:
                raise TokenError(
                    f"token {token!r}: {self.path} has learnt {', '.join(self.concepts) or 'nothing yet'}"
                )
            if to in self.concepts or self.backbone().own_vector(to) is not None:
                place = self.path if to in self.concepts else "the base"
                raise TokenError(f"token {to!r}: {place} has one of this name already; choose another token")
            version = version_renamed(self.path, self.manifest, token, to, self._files)
            self.commit(entry("rename", version=version.version, token=to, was=token), version)
            self._unload()
        return version

    def pick(
        self,
        token: str,
        step: int,
        *,
        on_progress: OnProgress = lambda progress: None,
        **changes: Unpack[LearnChanges],
    ) -> Version:
        """Make the weights of ``token`` after ``step``, which its lesson kept (``keep_every``), what it is
        now, as a new version that is examined like any other. Other concepts stay as they are; ``undo`` takes
        it back. ``changes``: settings of the examination, e.g. ``report_pictures=0``. Raises TokenError,
        WorldError where no such step is kept, SettingsError where later lessons changed the same weights.
        """
        return pick(self._world, token, step, on_progress, changes)

    def import_file(
        self,
        file: str | Path,
        *,
        token: str,
        noun: str,
        trigger: str = "",
        embedding: str | Path | None = None,
        denoiser_only: bool = False,
        photos: Photos | None = None,
        discard: bool = False,
        on_progress: OnProgress = lambda progress: None,
        **changes: Unpack[LearnChanges],
    ) -> Arrived:
        """Take in a LoRA, an embedding or Custom Diffusion's weights (safetensors) as a concept like any
        other, as a new version.

        ``trigger``: the words that its prompts said, such as "ohwx dog": ``<token> noun`` is read as these;
        by default what the file's header says, else the token's name and the noun. ``embedding``: a file with
        the token's vectors instead. ``denoiser_only``: leave a text encoder's part out. ``photos``: to
        remember it by; else it is remembered by pictures that it draws. ``changes``: settings of its
        examination, as ``learn`` has them, e.g. ``report_pictures=0``. Raises ExchangeError, TokenError,
        SettingsError, WorldError.
        """
        wanted = Wanted(
            token,
            check_noun(noun),
            trigger,
            None if embedding is None else Path(embedding).expanduser(),
            denoiser_only,
        )
        return take(self._world, Path(file).expanduser(), wanted, photos, discard, on_progress, changes)

    @classmethod
    def import_world(cls, file: str | Path, path: str | Path) -> Self:
        """The world that ``export(format="world")`` packed, as the new folder ``path``; every file is
        checked. Raises ExchangeError, WorldError.
        """
        path = Path(path).expanduser()
        with os_errors(path):
            read_bundle(Path(file).expanduser(), path)
        return cls.open(path)

    def import_concept(
        self,
        other: str | Path,
        token: str,
        *,
        to: str = "",
        discard: bool = False,
        on_progress: OnProgress = lambda progress: None,
        **changes: Unpack[LearnChanges],
    ) -> Arrived:
        """Take in the concept ``token`` of another world of the same base, a folder or an exported zip, bit
        for bit; ``to``: its token here. ``changes``: as in ``import_file``.

        Raises TokenError, WorldError."""
        return move(self._world, Path(other).expanduser(), token, to or token, discard, on_progress, changes)

    def merge(
        self,
        other: str | Path,
        *,
        discard: bool = False,
        on_progress: OnProgress = lambda progress: None,
        **changes: Unpack[LearnChanges],
    ) -> list[Arrived]:
        """Take in all concepts of another world of the same base, each bit for bit as ``import_concept`` does
        and as a version of its own, in the order in which they were learnt. Raises TokenError, before
        anything is taken in, where both worlds have a token; WorldError.
        """
        return merge(self._world, Path(other).expanduser(), discard, on_progress, changes)
