"""Masks of photos, white where the subject is: from a folder with the photos' names, beside them as
OneTrainer has them, or their transparency.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from ..errors import PhotoError
from ..settings import OWN_MASKS
from .decoding import Decoded, decoded
from .folder import MASK, SUFFIXES, listed

BESIDE, ALPHA = OWN_MASKS
MOST_TOLD = 5


class Masks:
    """The masks that ``kind`` says; ``of`` gives a photo's. ``beside``: files named as masks that lie beside
    the photos.
    """

    def __init__(self, kind: str, beside: list[Path]):
        self.kind, self.beside = kind, beside
        self._files: dict[str, list[Path]] = {}
        self._used: dict[Path, Path] = {}  # mask -> its photo
        self._photos: set[Path] = set()
        if kind == BESIDE:
            self._keep(beside)
        elif kind not in ("", ALPHA):
            self._keep(
                listed(
                    Path(kind).expanduser(), f"masks that have the photos' names, or say {BESIDE} or {ALPHA}"
                )
            )

    def _keep(self, files: list[Path]) -> None:
        for path in files:
            if path.name.lower().endswith(MASK):
                self._files.setdefault(path.name[: -len(MASK)], []).append(path)
            elif path.suffix.lower() in SUFFIXES:
                self._files.setdefault(path.stem, []).append(path)

    def of(self, photo: Path, read: Decoded) -> tuple[Image.Image | None, str, list[str]]:
        """The mask of ``photo``, of its picture's size in shades of grey, or none where it is learnt whole;
        what it is called; notes. Raises PhotoError for one that cannot be used."""
        self._photos.add(photo)
        if not self.kind:
            return None, "", []
        if self.kind == ALPHA:
            if read.alpha is None or read.alpha.getextrema()[0] == 255:
                return None, "", ["nothing of it is transparent, so it has no mask and is learnt whole"]
            return _checked(read.alpha, photo), ALPHA, []
        if (path := self._path(photo)) is None:
            return None, "", ["no mask, so it is learnt whole"]
        mask, notes = decoded(path), []
        (width, height), (wide, high) = mask.size, read.size
        if abs(width * high - height * wide) > 0.01 * width * high:
            raise PhotoError(
                f"{path}: {width} x {height} pixels, but its photo {photo.name} has {wide} x {high}; save "
                "the mask in the photo's shape"
            )
        if mask.size != read.size:
            notes.append(f"mask of {width} x {height} pixels, scaled")
        grey = mask.image.convert("L")
        if mask.alpha is not None:
            grey = ImageChops.multiply(grey, mask.alpha)
        return _checked(grey.resize(read.image.size, Image.Resampling.BILINEAR), path), path.name, notes

    def _path(self, photo: Path) -> Path | None:
        found = [path for path in self._files.get(photo.stem, []) if path != photo]
        same = [path for path in found if path.name == photo.name] or found
        if len(same) > 1:
            raise PhotoError(f"{photo}: two masks, {same[0].name} and {same[1].name}; leave one there")
        if same and self._used.setdefault(same[0], photo) != photo:
            raise PhotoError(
                f"{photo}: its mask {same[0].name} is that of {self._used[same[0]]} too; rename one"
            )
        return same[0] if same else None

    def without_photo(self) -> list[str]:
        """Sentences about masks that were not used."""
        if self.beside and self.kind != BESIDE:
            return [
                f"{len(self.beside)} masks beside the photos (such as {self.beside[0].name}) are not used: "
                "masks = beside uses them"
            ]
        files = (path for paths in self._files.values() for path in paths)
        alone = [path for path in files if path not in self._used and path not in self._photos]
        more = [f"and {len(alone) - MOST_TOLD} more masks without a photo"] if len(alone) > MOST_TOLD else []
        return [f"{path}: a mask without a photo" for path in alone[:MOST_TOLD]] + more


def _checked(mask: Image.Image, place: Path) -> Image.Image:
    if np.asarray(mask).max() < 128:
        raise PhotoError(f"{place}: nothing of the mask is white; white is what is learnt, black what is not")
    return mask
