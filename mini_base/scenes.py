"""Pictures of known content: icons composed on drawn backgrounds, with a caption such as people write.

Mostly one thing, at any size and place, as on the web: that something is small or on the left is said in
words and learnt from them alone, and what a denoiser makes of two things at once is its own doing. Captions
name style, size, colour, position and background, each by chance; never what is not there.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from l2dm.concept.words import article

from .corpus import STYLES, Icon
from .places import PLACES, PLAIN, draw_place

BANK = 40  # drawings of each place, cropped and mirrored afresh for every picture
SHARES = (0.87, 0.1, 0.03)  # of pictures of one thing, of two and of three
SIZES = (
    (0.35, 0.95),
    (0.35, 0.6),
    (0.32, 0.44),
)  # of each of one, two or three things, as shares of the side
SMALL, LARGE = 0.5, 0.8  # below and above which size is spoken of
OFF = 0.1  # from the middle on, as a share of the side, at which a position is spoken of
SAID = {
    "style": 0.4,
    "size": 0.8,
    "colour": 0.3,
    "position": 0.6,
    "place": 0.85,
    "background": 0.8,
    "white": 0.3,
}
BEGINNINGS = {"a photo of ": 0.6, "": 0.25, "a picture of ": 0.15}
#: what inks are called: hue, saturation and value within these bounds, each in [0, 1]
INKS = {
    "black": ((0, 1), (0, 1), (0, 0.25)),
    "white": ((0, 1), (0, 0.12), (0.85, 1)),
    "gray": ((0, 1), (0, 0.2), (0.3, 0.8)),
    "brown": ((0.02, 0.12), (0.3, 1), (0.25, 0.72)),
    "orange": ((0.05, 0.105), (0.6, 1), (0.8, 1)),
    "yellow": ((0.11, 0.17), (0.45, 1), (0.8, 1)),
    "green": ((0.19, 0.45), (0.3, 1), (0.3, 1)),
    "blue": ((0.52, 0.68), (0.35, 1), (0.4, 1)),
    "purple": ((0.7, 0.82), (0.25, 1), (0.35, 1)),
    "pink": ((0.86, 0.99), (0.15, 0.6), (0.8, 1)),
}


@dataclass(frozen=True)
class Item:
    """One object of a scene: its icon and the box it fills, ``(left, top, right, bottom)`` in pixels."""

    icon: Icon
    box: tuple[int, int, int, int]

    def cells(self, side: int, count: int) -> np.ndarray:
        """``(count, count)`` in [0, 1]: the share that the box covers of each cell of a picture ``side``
        pixels square.
        """
        low, high = np.arange(count) * side / count, np.arange(1, count + 1) * side / count
        left, top, right, bottom = self.box
        x, y = (
            (high.clip(max=b) - low.clip(min=a)).clip(min=0) * count / side
            for a, b in ((left, right), (top, bottom))
        )
        return y[:, None] * x[None]


@dataclass(frozen=True)
class Scene:
    """A composed picture ``(side, side, 3)`` uint8, its caption, and exactly what is in it."""

    pixels: np.ndarray
    caption: str
    background: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Spot:
    """Where a thing goes: its longer side and its centre, as shares of the picture's side."""

    size: float
    x: float
    y: float

    def meets(self, other: Spot) -> bool:
        """Whether the two would lie upon each other."""
        return max(abs(self.x - other.x), abs(self.y - other.y)) <= 0.9 * (self.size + other.size) / 2

    @property
    def position(self) -> str:
        """In words; "" in the middle."""
        across = "left" if self.x < 0.5 - OFF else "right" if self.x > 0.5 + OFF else ""
        down = "top" if self.y < 0.5 - OFF else "bottom" if self.y > 0.5 + OFF else ""
        if across and down:
            return f"in the {down} {across} corner" if self.size < SMALL else f"at the {down} {across}"
        return f"on the {across}" if across else f"at the {down}" if down else ""


def ink(icon: Icon) -> str:
    """The colour that more than half of the drawing has, in a word; "" when no colour has."""
    rgba = np.asarray(Image.fromarray(icon.rgba).resize((32, 32), Image.Resampling.BOX))
    h, s, v = (np.asarray(Image.fromarray(rgba[..., :3]).convert("HSV")) / 255.0).transpose(2, 0, 1)
    seen = rgba[..., 3] > 128
    if not seen.any():
        return ""
    called = {
        name: (h >= a) & (h <= b) & (s >= c) & (s <= d) & (v >= e) & (v <= f)
        for name, ((a, b), (c, d), (e, f)) in INKS.items()
    }
    called["red"] = ((h < 0.04) | (h > 0.96)) & (s > 0.6) & (v > 0.5)
    shares = {name: float(cells[seen].mean()) for name, cells in called.items()}
    name = max(shares, key=shares.__getitem__)
    return name if shares[name] > 0.5 else ""


class Composer:
    """Draws endless scenes from ``icons``. ``side`` is the picture's side in pixels; the seed fixes
    everything.

    ``unit``: pixels of the finest line of a drawn place; None: as many as look the same at every side, one at
    64.
    """

    def __init__(self, icons: list[Icon], side: int = 64, seed: int = 0, unit: int | None = None):
        self.side, self.rng = side, np.random.default_rng(seed)
        by_noun: dict[str, dict[str, list[Icon]]] = {}
        for icon in icons:
            by_noun.setdefault(icon.noun, {}).setdefault(icon.style, []).append(icon)
        self.by_noun, self.nouns = by_noun, sorted(by_noun)
        bank_rng = np.random.default_rng(12345)
        bank_side, unit = side * 3 // 2, unit or max(1, side // 64)
        self.bank = {
            kind: [draw_place(kind, bank_rng, bank_side, unit) for _ in range(BANK)] for kind in PLACES
        }
        self._images: dict[int, Image.Image] = {}
        self._inks: dict[int, str] = {}

    def _image(self, icon: Icon) -> Image.Image:
        if id(icon) not in self._images:
            self._images[id(icon)] = Image.fromarray(icon.rgba)
        return self._images[id(icon)]

    def _ink(self, icon: Icon) -> str:
        if id(icon) not in self._inks:
            self._inks[id(icon)] = ink(icon)
        return self._inks[id(icon)]

    def pick(self, noun: str | None = None) -> Icon:
        """An icon: noun, then style, then drawing, each drawn evenly."""
        noun = noun or str(self.rng.choice(self.nouns))
        style = str(self.rng.choice(sorted(self.by_noun[noun])))
        drawings = self.by_noun[noun][style]
        return drawings[self.rng.integers(len(drawings))]

    def background(self, kind: str) -> Image.Image:
        rng, side = self.rng, self.side
        if kind in PLAIN:
            tone = np.array(PLAIN[kind]) * rng.uniform(0.94, 1.04) + rng.normal(size=3) * 3
            return Image.new("RGB", (side, side), tuple(int(c) for c in tone.clip(0, 255)))
        drawn = self.bank[kind][rng.integers(BANK)]
        left, top = (int(v) for v in rng.integers(drawn.width - side + 1, size=2))
        top = (drawn.height - side) // 2 if kind in ("grass", "beach", "snow") else top
        crop = drawn.crop((left, top, left + side, top + side))
        return crop.transpose(Image.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else crop

    def paste(self, canvas: Image.Image, icon: Icon, spot: Spot, freedom: float = 1.0) -> Item:
        """Paste ``icon`` at ``spot``, mirrored by even chance and tilted by up to 8 degrees, both times
        ``freedom``.
        """
        rng, size = self.rng, spot.size * self.side
        image = self._image(icon)
        if rng.random() < 0.5 * freedom:
            image = image.transpose(Image.FLIP_LEFT_RIGHT)
        upright = image.width
        image = image.rotate(float(rng.uniform(-8, 8)) * freedom, Image.Resampling.BICUBIC, expand=True)
        pixels = max(6, round(size * image.width / upright))
        image = image.resize(
            (pixels, pixels), Image.Resampling.BOX if pixels * 3 < image.width else Image.Resampling.LANCZOS
        )
        left, top = round(spot.x * self.side - pixels / 2), round(spot.y * self.side - pixels / 2)
        canvas.paste(image, (left, top), image)
        return Item(icon, (left, top, left + pixels, top + pixels))

    def spots(self, count: int) -> list[Spot]:
        """Where ``count`` things go: anywhere within the picture, and apart from each other."""
        rng, (least, most) = self.rng, SIZES[count - 1]
        while True:
            sizes = rng.uniform(least, most, size=count)
            room = (1 - sizes) / 2
            found = [Spot(s, *(0.5 + rng.uniform(-r, r, size=2))) for s, r in zip(sizes, room)]
            if not any(a.meets(b) for a, b in itertools.combinations(found, 2)):
                return found

    def scene(
        self,
        count: int | None = None,
        nouns: list[str] | None = None,
        background: str | None = None,
        icons: list[Icon] | None = None,
    ) -> Scene:
        """A scene of ``count`` different nouns (None: by ``SHARES``), or of the given ``nouns`` or ``icons``,
        with its caption.
        """
        rng = self.rng
        if icons is None:
            count = count or int(rng.choice(3, p=SHARES)) + 1
            nouns = nouns or [str(n) for n in rng.choice(self.nouns, size=count, replace=False)]
            icons = [self.pick(noun) for noun in nouns]
        if background is None:
            background = (
                "white"
                if rng.random() < 0.15
                else str(rng.choice([*PLACES] if rng.random() < 0.5 else [*PLAIN]))
            )
        canvas, spots = self.background(background), self.spots(len(icons))
        items = tuple(self.paste(canvas, icon, spot) for icon, spot in zip(icons, spots))
        return Scene(np.asarray(canvas), self.caption(icons, spots, background), background, items)

    def photo(self, icon: Icon, background: str) -> np.ndarray:
        """``icon`` large, upright and near the middle, as people photograph their things; now and then from
        further off.
        """
        rng, canvas = self.rng, self.background(background)
        far = bool(rng.random() < 0.035)
        size = rng.uniform(0.35, 0.5) if far else rng.uniform(0.795, 0.92)
        room = (1 - size) / 2 * 0.35
        spot = Spot(size, 0.5 + rng.uniform(-room, room), 0.5 + rng.uniform(-room, room))
        self.paste(canvas, icon, spot, freedom=0.35)
        rng.random(
            2 + far + bool(STYLES[icon.style][2])
        )  # captions took so many: drawn photos stay what they were
        return np.asarray(canvas)

    def says(self, what: str) -> bool:
        return bool(self.rng.random() < SAID[what])

    def named(self, icon: Icon, spot: Spot) -> str:
        """A thing in words, with its article."""
        size = "small" if spot.size < SMALL else "large" if spot.size > LARGE else ""
        words = [
            size if self.says("size") else "",
            STYLES[icon.style][2] if self.says("style") else "",
            self._ink(icon) if self.says("colour") else "",
            icon.noun,
        ]
        return article(" ".join(word for word in words if word))

    def caption(self, icons: list[Icon], spots: list[Spot], background: str) -> str:
        """What a person would write under the picture: never more than is in it, often less."""
        rng = self.rng
        order = rng.permutation(len(icons))
        names, spots = [self.named(icons[i], spots[i]) for i in order], [spots[i] for i in order]
        if len(names) == 2 and rng.random() < 0.5:
            text = f"{names[0]} {self.relation(*spots)} {names[1]}"
        elif self.says("position"):
            names = [f"{name} {spot.position}".strip() for name, spot in zip(names, spots)]
            text = ", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1]
        else:
            text = ", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1]
        if background in PLACES:
            text += f" {PLACES[background]}" if self.says("place") else ""
        elif self.says("white" if background == "white" else "background"):
            text += f" on {article(background)} background"
        return str(rng.choice(list(BEGINNINGS), p=list(BEGINNINGS.values()))) + text

    def relation(self, a: Spot, b: Spot) -> str:
        """How the first of two things lies to the second."""
        if self.rng.random() < 0.3:
            return "next to"
        if abs(a.x - b.x) > abs(a.y - b.y):
            return "to the left of" if a.x < b.x else "to the right of"
        return "above" if a.y < b.y else "below"

    def photo_like(self) -> np.ndarray:
        """Dead leaves over coloured noise, blurred by chance: statistics of photographs, for the autoencoder
        alone.
        """
        rng, side = self.rng, self.side
        spectrum = np.fft.fftfreq(side)[:, None] ** 2 + np.fft.rfftfreq(side)[None] ** 2
        shape = (3, side, side // 2 + 1)
        waves = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / np.sqrt(
            spectrum + 1 / side**2
        ) ** rng.uniform(0.8, 1.6)
        field = np.fft.irfft2(waves, s=(side, side)).transpose(1, 2, 0)
        field /= field.std() + 1e-6
        grey = field.mean(-1, keepdims=True)
        field = grey + rng.uniform(0, 0.8) * (field - grey)
        pixels = (rng.uniform(60, 200, size=3) + field * rng.uniform(10, 60)).clip(0, 255).astype(np.uint8)
        image = Image.fromarray(pixels)
        pen = ImageDraw.Draw(image)
        for _ in range(int(rng.integers(0, 25))):
            cx, cy = rng.uniform(0, side, size=2)
            rx, ry = side * rng.uniform(0.03, 0.3) ** 1.3, side * rng.uniform(0.03, 0.3) ** 1.3
            tone = tuple(int(c) for c in rng.integers(0, 256, size=3))
            if rng.random() < 0.5:
                pen.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), fill=tone)
            else:
                pen.polygon(
                    [(float(cx + rng.normal() * rx), float(cy + rng.normal() * ry)) for _ in range(4)],
                    fill=tone,
                )
        if rng.random() < 0.4:
            image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.2))))
        pixels = np.asarray(image).astype(np.float32) + rng.normal(size=(side, side, 1)) * rng.uniform(0, 8)
        return pixels.clip(0, 255).astype(np.uint8)
