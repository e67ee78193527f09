"""Photos as people have them: any common format, in any colours, rotated, transparent, broken, or twice the
same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import PhotoError
from .captions import Captions
from .decoding import Decoded, decoded, decoded_picture
from .folder import MOST, is_mask, too_many
from .given import Photos, given
from .masks import Masks

SMALLEST = 32
WAYS = (
    "give a folder of masks with the photos' names, beside (photo-masklabel.png) or alpha "
    "(transparency), "
    "or leave it out"
)


@dataclass(frozen=True)
class Photo:
    """One readable photo: its pixels as sRGB, upright, at most about 1,024 a side; its caption, if there is
    one beside it.
    """

    path: Path
    image: Image.Image = field(repr=False, compare=False)
    caption: str | None
    notes: tuple[str, ...] = ()
    digest: str = ""
    size: tuple[int, int] = (0, 0)  # width and height of the file's own picture, upright
    mask: Image.Image | None = field(
        default=None, repr=False, compare=False
    )  # of the image's size, white: subject
    masked_by: str = ""  # what the mask is called

    def square(self, side: int) -> Image.Image:
        """The centre square, ``side`` pixels."""
        return self.fit((side, side))

    def fit(self, size: tuple[int, int]) -> Image.Image:
        """The largest part about the centre that has the shape of ``size``, in pixels (width, height), scaled
        to it.
        """
        return ImageOps.fit(self.image, size, Image.Resampling.LANCZOS)

    def fit_mask(self, size: tuple[int, int]) -> Image.Image:
        """The mask of what ``fit`` gives, all white where there is none."""
        if self.mask is None:
            return Image.new("L", size, 255)
        return ImageOps.fit(self.mask, size, Image.Resampling.BOX)


@dataclass(frozen=True)
class PhotoReport:
    """What a folder holds: photos that can be used, and a sentence about each file that cannot."""

    folder: Path
    photos: tuple[Photo, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()  # about what else lies there

    def usable(self, skip_bad: bool = False) -> tuple[Photo, ...]:
        """The photos, or a PhotoError naming what is wrong and the way out."""
        if self.problems and not skip_bad:
            more = f" (and {len(self.problems) - 1} more; see l2dm check)" if len(self.problems) > 1 else ""
            raise PhotoError(f"{self.problems[0]}{more}; remove the file or pass --skip-bad")
        if not self.photos:
            why = f" ({self.problems[0]})" if self.problems else ""
            raise PhotoError(
                f"{self.folder}: no usable photo{why}; put 1 to {MOST} photos (3 to 5 are best) into this "
                "folder"
            )
        return self.photos


def check_photos(photos: Photos, masks: str = "") -> PhotoReport:
    """Read photos one after another: those of a folder (not of its subfolders), or of a list of paths and of
    pictures open in Pillow. ``masks``: "" for none, "beside" (``photo-masklabel.png``), "alpha" (their
    transparency), or a folder.

    Raises PhotoError where there are none of that name, and, before any is read, if they are more than MOST.
    """
    told = given(photos)
    captions = {
        folder: Captions([path for path in told.beside if path.parent == folder])
        for folder in dict.fromkeys(path.parent for path, _ in told.photos)
    }
    masked = Masks(masks, [path for path in told.beside if is_mask(path)])
    found: list[Photo] = []
    problems: list[str] = []
    seen: dict[str, Path] = {}
    for path, picture in told.photos:
        try:
            read = decoded(path) if picture is None else decoded_picture(path, picture)
            photo = _photo(path, read, captions[path.parent], masked)
        except PhotoError as error:
            problems.append(str(error))
            continue
        if photo.digest in seen:
            problems.append(f"{path}: the same picture as {seen[photo.digest].name}")
            continue
        seen[photo.digest] = path
        found.append(photo)
        if len(found) > MOST:
            raise PhotoError(too_many(told.place, f"more than {MOST}"))
    if masks and found and not any(photo.mask for photo in found):
        problems.append(no_masks(masks))
    notes = [note for of in captions.values() for note in of.without_photo()] if told.whole else []
    problems += [problem for of in captions.values() for problem in of.problems]
    return PhotoReport(told.place, tuple(found), tuple(problems), (*notes, *masked.without_photo()))


def no_masks(masks: str) -> str:
    return f"masks = {masks}: none of the photos has one; {WAYS}"


def _photo(path: Path, read: Decoded, captions: Captions, masks: Masks) -> Photo:
    caption, told = captions.of(path)
    image, size = read.image, read.size
    if min(size) < SMALLEST:
        raise PhotoError(f"{path}: {size[0]} x {size[1]} pixels; at least {SMALLEST} a side are needed")
    mask, name, of_mask = masks.of(path, read)
    short, long = sorted(size)
    if 3 * long > 4 * short:
        told = [f"the middle {short / long:.0%} is learnt, the centre square; more of it with buckets", *told]
    digest = hashlib.sha256(f"{size}".encode() + image.tobytes()).hexdigest()
    return Photo(path, image, caption, (*read.notes, *told, *of_mask), digest, size, mask, name)


def shrunken(
    image: Image.Image, side: int, room: tuple[int, int], middle: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """``image``, ``side`` pixels square, about ``middle`` (x, y) of ``room`` (width, height), its edges drawn
    out or cut off.

    The pixels (height, width, 3), and where they are the image's own (height, width).
    """
    small = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS))
    x, y = (np.arange(length) - round(at - side / 2) for length, at in zip(room, middle))
    own = ((y >= 0) & (y < side))[:, None] & ((x >= 0) & (x < side))
    return small[y.clip(0, side - 1)][:, x.clip(0, side - 1)], own
