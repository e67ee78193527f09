"""One photo's file to pixels: sRGB, upright, no larger than is learnt from, and nothing that takes much
memory on the way.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ..errors import PhotoError
from .folder import SUFFIXES

FORMATS = {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "AVIF", "HEIF"}
#: Pixels of the shorter side that are kept: more than any base that is read learns at.
SHORT_SIDE = 1024
MOST_PIXELS, MOST_BYTES = 200_000_000, 512 << 20
#: Bytes of a pixel while it is decoded and converted; all other modes take four.
_BYTES = {"1": 1, "L": 1, "P": 1, "LA": 4, "F": 13, "I": 13}
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


class Decoded(NamedTuple):
    """A picture in sRGB, laid on white; of the same size what it had of opacity, if anything; the width and
    height it has in its file (upright); and notes."""

    image: Image.Image
    alpha: Image.Image | None
    size: tuple[int, int]
    notes: list[str]


def decoded(path: Path) -> Decoded:
    """What is in a file; a PhotoError for what cannot be read."""
    bytes_ = 0
    try:
        if not (bytes_ := path.stat().st_size):
            raise PhotoError(f"{path}: the file is empty; remove it")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _know_heif(path)
            with Image.open(path) as image:
                _check_header(path, image)
                return _pixels(image)
    except PhotoError:
        raise
    except UnidentifiedImageError:
        raise PhotoError(f"{path}: {_unknown(path)}") from None
    except Image.DecompressionBombError:
        raise PhotoError(
            f"{path}: more than {MOST_PIXELS // 10**6} million pixels; save it smaller"
        ) from None
    except Exception as error:  # Pillow's plugins raise nearly anything on broken data
        raise PhotoError(
            f"{path}: broken after {bytes_:,} bytes ({str(error).strip() or type(error).__name__})"
        ) from None


def decoded_picture(path: Path, picture: Image.Image) -> Decoded:
    """As ``decoded``, of a ``picture`` that is open in Pillow already, and stays as it is; ``path`` is what
    errors call it.
    """
    if picture.width * picture.height > MOST_PIXELS:
        raise PhotoError(f"{path}: more than {MOST_PIXELS // 10**6} million pixels; make it smaller")
    try:
        copy = picture.copy()
        copy.full_size = copy.size  # type: ignore[attr-defined]
        return _pixels(copy)
    except Exception as error:  # Pillow's plugins raise nearly anything on broken data
        raise PhotoError(f"{path}: cannot be read ({str(error).strip() or type(error).__name__})") from None


def _check_header(path: Path, image: Image.Image) -> None:
    """Refuse before decoding what is no photo's format, or would take too much memory."""
    if image.format not in FORMATS:
        raise PhotoError(f"{path}: {image.format} pictures are not supported; save it as JPEG or PNG")
    width, height = image.size
    size = f"{path}: {width} x {height} pixels"
    if width * height > MOST_PIXELS:
        raise PhotoError(f"{size}; at most {MOST_PIXELS // 10**6} million; save it smaller")
    whole = 6 if image.info.get("progressive") else 0  # such a file's coefficients are all held at once
    image.draft(None, (SHORT_SIDE, SHORT_SIDE))  # JPEG alone can be decoded smaller
    a_pixel = 13 if image.mode.startswith("I") else _BYTES.get(image.mode, 4)
    need = image.width * image.height * a_pixel + width * height * whole
    if need > MOST_BYTES:
        raise PhotoError(
            f"{size} would take {need / 2**30:.1f} GiB to decode, at most {MOST_BYTES / 2**30:.1f} are "
            "allowed; save it smaller"
        )
    image.full_size = width, height  # type: ignore[attr-defined]


def _pixels(image: Image.Image) -> Decoded:
    notes: list[str] = []
    size = image.full_size  # type: ignore[attr-defined]
    if (frames := getattr(image, "n_frames", 1)) > 1 and image.format in ("GIF", "WEBP", "TIFF", "AVIF"):
        notes.append(f"first of {frames} frames")
    turned = image.getexif().get(0x0112, 1)
    if turned != 1:
        notes.append("rotated as its EXIF data says")
    mode, profile = image.mode, image.info.get("icc_profile")
    bits = image.tag_v2.get(258, (16,))[0] if hasattr(image, "tag_v2") else 16
    image.load()
    upright = ImageOps.exif_transpose(image)
    if turned in (5, 6, 7, 8):
        size = size[::-1]
    rgb, alpha = _to_rgb(_shrunk(_eight_bits(upright, bits, notes)), profile, notes)
    if mode != "RGB":
        notes.append(f"{mode} converted to RGB")
    return Decoded(rgb, alpha, size, notes)


def _eight_bits(image: Image.Image, bits: int, notes: list[str]) -> Image.Image:
    """Greys of 16 and 32 bits and of floating point as eight bits, by the range of their kind, not by what
    the picture holds.
    """
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image, np.float32))
        most = float(values.max())
        top = 1.0 if most <= 1.5 else 255.0 if most <= 255 else 65535.0
        notes.append(f"numbers with a point, taken as 0 to {top:.0f}")
    elif image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float32)
        top = 65535.0 if bits <= 16 else 2.0 ** (bits - 1) - 1
    else:
        return image
    values *= 255 / top
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))


def _shrunk(image: Image.Image) -> Image.Image:
    """No more pixels than are learnt from: thirty photos of any size fit into memory."""
    share = SHORT_SIDE / min(image.size)
    if share >= 1:
        return image
    if image.mode in ("P", "1"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    return image.resize([round(s * share) for s in image.size], Image.Resampling.LANCZOS, reducing_gap=2.0)


def _to_rgb(
    image: Image.Image, profile: bytes | None, notes: list[str]
) -> tuple[Image.Image, Image.Image | None]:
    """Any mode to sRGB: palettes resolved, colours converted by the picture's own profile, transparency laid
    on white.
    """
    alpha = None
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")
    elif image.mode in ("P", "1"):
        image = image.convert("RGB")
    if image.mode == "LAB":
        lab, srgb = (ImageCms.createProfile(space) for space in ("LAB", "sRGB"))
        return _converted(image, lab, srgb), alpha
    rgb = _by_profile(image, profile, notes) if profile else image.convert("RGB")
    if alpha:
        rgb.paste((255, 255, 255), mask=ImageOps.invert(alpha))
    return rgb, alpha


def _converted(
    image: Image.Image,
    own: ImageCms.ImageCmsProfile | ImageCms.core.CmsProfile,
    to: ImageCms.ImageCmsProfile | ImageCms.core.CmsProfile,
) -> Image.Image:
    """``image`` from profile ``own`` to ``to``, in RGB."""
    rgb = ImageCms.profileToProfile(image, own, to, outputMode="RGB")
    assert rgb is not None  # it is where it is not to change the image itself
    return rgb


def _by_profile(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    """``image`` converted from its ICC ``profile`` to sRGB; as it is if that is nearly sRGB, or broken
    (noted).
    """
    plain = image.convert("RGB")
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = " ".join(ImageCms.getProfileDescription(own).split())[:60] or "unnamed"
        rgb = _converted(image, own, ImageCms.createProfile("sRGB"))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append("its colour profile is broken or of another kind of picture: colours taken as sRGB")
        return plain
    if np.abs(np.asarray(rgb, np.int16) - np.asarray(plain, np.int16)).max() <= 2:
        return plain
    notes.append(f"colours converted from {name} to sRGB")
    return rgb


def _is_heif(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(12)
    return start[4:8] == b"ftyp" and start[8:12] in _HEIF


def _know_heif(path: Path) -> None:
    """Let Pillow read HEIC, as phones save it, where the package for it is there."""
    if path.suffix.lower() in (".heic", ".heif") or _is_heif(path):
        try:
            import pillow_heif
        except ImportError:
            return
        pillow_heif.register_heif_opener()


def _unknown(path: Path) -> str:
    """What to do about a file that Pillow does not know."""
    if _is_heif(path) or (path.suffix.lower() in (".heic", ".heif")):
        try:
            import pillow_heif  # noqa: F401
        except ImportError:
            return "HEIC: install l2dm[heic], or save it as JPEG"
    if path.suffix.lower() in SUFFIXES:
        return "a photo that this version of Pillow cannot read, or broken; save it as JPEG"
    return "not a photo; remove it"
