"""Photos as people have them: any common format, rotated, transparent, broken, or twice the same."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import PhotoError

FORMATS = {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO"}
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".jpe", ".jfif", ".mpo"}
MOST, SMALLEST, MOST_PIXELS = 30, 32, 200_000_000


@dataclass(frozen=True)
class Photo:
    """One readable photo: its pixels as RGB, upright; its caption, if a text file lies beside it."""

    path: Path
    image: Image.Image = field(repr=False, compare=False)
    caption: str | None
    notes: tuple[str, ...] = ()
    digest: str = ""

    def square(self, side: int) -> Image.Image:
        """The centre square, ``side`` pixels."""
        return ImageOps.fit(self.image, (side, side), Image.LANCZOS)


@dataclass(frozen=True)
class PhotoReport:
    """What a folder holds: photos that can be used, and a sentence about each file that cannot."""

    folder: Path
    photos: tuple[Photo, ...]
    problems: tuple[str, ...]

    def usable(self, skip_bad: bool = False) -> tuple[Photo, ...]:
        """The photos, or a PhotoError naming what is wrong and the way out."""
        if self.problems and not skip_bad:
            more = f" (and {len(self.problems) - 1} more; see l2dm check)" if len(self.problems) > 1 else ""
            raise PhotoError(f"{self.problems[0]}{more}; remove the file or pass --skip-bad")
        if not self.photos:
            raise PhotoError(
                f"{self.folder}: no usable photo; put 1 to {MOST} photos (3 to 5 are best) into this folder"
            )
        if len(self.photos) > MOST:
            raise PhotoError(
                f"{self.folder}: {len(self.photos)} photos; a concept takes at most {MOST} (3 to 5 are best)"
            )
        return self.photos


def check_photos(folder: str | Path) -> PhotoReport:
    """Read every photo of ``folder`` (not of its subfolders). Raises PhotoError only if there is no such folder."""
    folder = Path(folder)
    if not folder.exists():
        raise PhotoError(f"{folder}: no such folder; give a folder with 1 to {MOST} photos")
    if not folder.is_dir():
        raise PhotoError(f"{folder}: not a folder; put the photos into a folder and give its path")
    photos: list[Photo] = []
    problems: list[str] = []
    seen: dict[str, Path] = {}
    captions = {p.stem for p in folder.iterdir() if p.suffix.lower() == ".txt"}
    for path in sorted(
        p
        for p in folder.iterdir()
        if p.is_file() and not p.name.startswith(".") and p.suffix.lower() != ".txt"
    ):
        try:
            photo = _read(path)
        except PhotoError as error:
            problems.append(str(error))
            continue
        if photo.digest in seen:
            problems.append(f"{path}: the same picture as {seen[photo.digest].name}")
            continue
        seen[photo.digest] = path
        captions.discard(path.stem)
        photos.append(photo)
    return PhotoReport(folder, tuple(photos), tuple(problems))


def _read(path: Path) -> Photo:
    size = path.stat().st_size
    if not size:
        raise PhotoError(f"{path}: the file is empty")
    notes = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                if image.format not in FORMATS:
                    raise PhotoError(
                        f"{path}: {image.format} pictures are not supported; save it as JPEG or PNG"
                    )
                if image.width * image.height > MOST_PIXELS:
                    raise PhotoError(
                        f"{path}: {image.width} x {image.height} pixels; at most {MOST_PIXELS // 10**6} million"
                    )
                if getattr(image, "n_frames", 1) > 1 and image.format in ("GIF", "WEBP", "TIFF"):
                    notes.append(f"first of {image.n_frames} frames")
                if image.getexif().get(0x0112, 1) != 1:
                    notes.append("rotated as its EXIF data says")
                mode = image.mode
                image.load()
                upright = ImageOps.exif_transpose(image)
                rgb = _to_rgb(upright)
    except PhotoError:
        raise
    except UnidentifiedImageError:
        kind = (
            "a photo that this version of Pillow cannot read"
            if path.suffix.lower() in SUFFIXES
            else "not a photo"
        )
        raise PhotoError(f"{path}: {kind}") from None
    except Image.DecompressionBombError:
        raise PhotoError(f"{path}: more than {MOST_PIXELS // 10**6} million pixels") from None
    except Exception as error:  # Pillow's plugins raise nearly anything on broken data
        raise PhotoError(
            f"{path}: broken after {size:,} bytes ({str(error).strip() or type(error).__name__})"
        ) from None
    if min(rgb.size) < SMALLEST:
        raise PhotoError(f"{path}: {rgb.width} x {rgb.height} pixels; at least {SMALLEST} a side are needed")
    if mode != "RGB":
        notes.append(f"{mode} converted to RGB")
    digest = hashlib.sha256(f"{rgb.size}".encode() + rgb.tobytes()).hexdigest()
    return Photo(path, rgb, _caption(path), tuple(notes), digest)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB: 16-bit greys scaled, palettes resolved, transparency laid on white."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        top = 65535 if values.max() > 255 else 255
        image = Image.fromarray((values / top * 255).clip(0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(ground, image)
    return image.convert("RGB")


def _caption(path: Path) -> str | None:
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        return None
    try:
        text = " ".join(beside.read_text(encoding="utf-8-sig").split())
    except UnicodeDecodeError:
        raise PhotoError(f"{beside}: the caption is not UTF-8 text") from None
    return text[:500] or None


def shrunken(
    image: Image.Image, side: int, room: tuple[int, int], middle: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """``image``, ``side`` pixels square, about ``middle`` (x, y) of ``room`` (width, height), its edges drawn out or cut off.

    The pixels (height, width, 3), and where they are the image's own (height, width)."""
    small = np.asarray(image.convert("RGB").resize((side, side), Image.LANCZOS))
    x, y = (np.arange(length) - round(at - side / 2) for length, at in zip(room, middle))
    own = ((y >= 0) & (y < side))[:, None] & ((x >= 0) & (x < side))
    return small[y.clip(0, side - 1)][:, x.clip(0, side - 1)], own
