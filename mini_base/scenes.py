"""Pictures of known content: icons composed on drawn backgrounds, with a caption that tells what is in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from l2dm.concept.words import article

from .corpus import STYLES, Icon

PLAIN = {
    "white": (250, 250, 250), "gray": (150, 152, 156), "black": (22, 22, 26), "red": (214, 56, 54),
    "orange": (244, 150, 50), "yellow": (250, 214, 84), "green": (92, 178, 98), "blue": (78, 134, 226),
    "purple": (142, 96, 200), "pink": (246, 166, 196),
}  # fmt: skip
PLACES = {
    "grass": "in the grass", "beach": "on the beach", "snow": "in the snow", "water": "in the water",
    "night": "at night", "wood": "on a wooden floor", "brick": "in front of a brick wall",
}  # fmt: skip
BANK = 40  # drawings of each place, cropped and mirrored afresh for every picture


@dataclass(frozen=True)
class Item:
    """One object of a scene: its icon and the box it fills, ``(left, top, right, bottom)`` in pixels."""

    icon: Icon
    box: tuple[int, int, int, int]

    def cells(self, side: int, count: int) -> np.ndarray:
        """``(count, count)`` in [0, 1]: the share that the box covers of each cell of a picture ``side`` pixels square."""
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


def _vertical(top, bottom, side):
    ramp = np.linspace(0, 1, side)[:, None, None]
    return np.broadcast_to(np.array(top) * (1 - ramp) + np.array(bottom) * ramp, (side, side, 3)).copy()


def draw_place(kind: str, rng: np.random.Generator, side: int) -> Image.Image:
    """One drawing of a place, ``side`` pixels square."""
    sky, horizon = (150 + rng.integers(30), 205 + rng.integers(20), 245), int(side * rng.uniform(0.3, 0.55))
    canvas = _vertical(sky, (225, 240, 250), side)
    noise = rng.normal(size=(side, side, 1))
    if kind == "grass":
        canvas[horizon:] = _vertical((120, 190, 80), (70, 150, 50), side)[horizon:] + 10 * noise[horizon:]
    elif kind == "beach":
        shore = min(side - 8, horizon + int(side * rng.uniform(0.1, 0.2)))
        canvas[horizon:shore] = (60, 150 + rng.integers(40), 205)
        canvas[shore:] = np.array((238, 214, 160)) + 6 * noise[shore:]
    elif kind == "snow":
        canvas = _vertical((170, 190, 215), (205, 218, 232), side)
        canvas[horizon:] = np.array((240, 245, 250)) + 3 * noise[horizon:]
    elif kind == "water":
        y, x = np.mgrid[:side, :side]
        wave = np.sin(y / rng.uniform(1.8, 2.6) + 1.5 * np.sin(x / rng.uniform(6, 12) + rng.uniform(0, 6)))
        canvas = _vertical((70, 160, 215), (25, 95, 170), side) + 14 * wave[..., None]
    elif kind == "night":
        canvas = _vertical((14, 16, 48), (44, 40, 88), side)
    elif kind == "wood":
        plank = int(rng.integers(9, 14))
        canvas = np.empty((side, side, 3))
        for top in range(0, side, plank):
            tone = np.array((176, 122, 72)) * rng.uniform(0.88, 1.1)
            grain = rng.normal(size=(min(plank, side - top), 1, 1)) * 5
            canvas[top : top + plank] = tone + grain
            canvas[top] = (110, 70, 40)
    elif kind == "brick":
        canvas = np.broadcast_to(np.array((205.0, 195, 185)), (side, side, 3)).copy()
        high, wide = int(rng.integers(7, 10)), int(rng.integers(16, 22))
        for row, top in enumerate(range(0, side, high)):
            for left in range(-(row % 2) * wide // 2, side, wide):
                tone = np.array((172, 74, 58)) * rng.uniform(0.85, 1.12)
                canvas[top : top + high - 1, max(0, left) : max(0, left + wide - 1)] = tone
    image = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    if kind == "grass":
        for _ in range(side * 2):
            x, y = rng.integers(side), rng.integers(horizon, side)
            green = tuple(int(c) for c in np.array((90, 170, 60)) * rng.uniform(0.7, 1.25))
            pen.line((int(x), int(y), int(x + rng.integers(-2, 3)), int(y - rng.integers(2, 6))), fill=green)
    if kind in ("snow", "night"):
        for _ in range(side // 2 if kind == "night" else side):
            x, y = (int(v) for v in rng.integers(side, size=2))
            pen.point(
                (x, y), fill=(255, 255, 255) if kind == "snow" or rng.random() < 0.5 else (200, 200, 160)
            )
    if kind == "night" and rng.random() < 0.6:
        x, y, r = int(rng.integers(side)), int(rng.integers(side // 3)), int(rng.integers(5, 9))
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(245, 240, 205))
    return image


class Composer:
    """Draws endless scenes from ``icons``. ``side`` is the picture's side in pixels; the seed fixes everything.

    ``spread`` in [0, 1]: how freely pictures vary. At 0 single objects stand upright, large, in the middle, each noun has
    one drawing a style, and captions name the style: what a denoiser learns first.
    """

    def __init__(self, icons: list[Icon], side: int = 64, seed: int = 0, spread: float = 1.0):
        self.side, self.rng, self.spread = side, np.random.default_rng(seed), spread
        by_noun: dict[str, dict[str, list[Icon]]] = {}
        for icon in icons:
            by_noun.setdefault(icon.noun, {}).setdefault(icon.style, []).append(icon)
        self.by_noun, self.nouns = by_noun, sorted(by_noun)
        bank_rng = np.random.default_rng(12345)
        bank_side = side * 3 // 2
        self.bank = {kind: [draw_place(kind, bank_rng, bank_side) for _ in range(BANK)] for kind in PLACES}
        self._cache: dict[int, Image.Image] = {}

    def _image(self, icon: Icon) -> Image.Image:
        if id(icon) not in self._cache:
            self._cache[id(icon)] = Image.fromarray(icon.rgba)
        return self._cache[id(icon)]

    def pick(self, noun: str | None = None) -> Icon:
        """An icon: noun, then style, then drawing, each drawn evenly."""
        noun = noun or str(self.rng.choice(self.nouns))
        style = str(self.rng.choice(sorted(self.by_noun[noun])))
        drawings = self.by_noun[noun][style]
        return drawings[self.rng.integers(len(drawings))] if self.rng.random() < self.spread else drawings[0]

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

    def paste(self, canvas: Image.Image, icon: Icon, size: float, cx: float, cy: float) -> Item:
        """Paste ``icon`` tilted and mirrored at random, its longer side ``size`` and its centre at (cx, cy), in pixels."""
        rng = self.rng
        image = self._image(icon)
        if rng.random() < 0.5 * self.spread:
            image = image.transpose(Image.FLIP_LEFT_RIGHT)
        upright = image.width
        image = image.rotate(float(rng.uniform(-8, 8)) * self.spread, Image.BICUBIC, expand=True)
        pixels = max(6, round(size * image.width / upright))
        image = image.resize((pixels, pixels), Image.BOX if pixels * 3 < image.width else Image.LANCZOS)
        left, top = round(cx - pixels / 2), round(cy - pixels / 2)
        canvas.paste(image, (left, top), image)
        return Item(icon, (left, top, left + pixels, top + pixels))

    def places(self, count: int) -> tuple[list[tuple[float, float, float]], str]:
        """Where ``count`` objects go: ``[(size, x, y)]`` as fractions of the side, and how they are arranged."""
        rng = self.rng
        if count == 1:
            small = rng.random() < 0.1 * self.spread
            size = rng.uniform(0.35, 0.5) if small else rng.uniform(0.9 - 0.3 * self.spread, 0.92)
            room = (1 - size) / 2 * self.spread
            return [(size, 0.5 + rng.uniform(-room, room), 0.5 + rng.uniform(-room, room))], "single"
        if count == 2:
            sizes = rng.uniform(0.44, 0.6, size=2)
            a, b = 0.26 + rng.uniform(-0.04, 0.03), 0.74 + rng.uniform(-0.03, 0.04)
            u, v = 0.5 + rng.uniform(-0.16, 0.16, size=2)
            if rng.random() < 0.25:
                return [(sizes[0], u, a), (sizes[1], v, b)], "column"
            return [(sizes[0], a, u), (sizes[1], b, v)], "row"
        spots = (
            [(0.22, 0.3), (0.78, 0.3), (0.5, 0.76)]
            if rng.random() < 0.5
            else [(0.5, 0.25), (0.22, 0.75), (0.78, 0.75)]
        )
        order = rng.permutation(3)
        return [
            (rng.uniform(0.36, 0.44), *(np.array(spots[i]) + rng.uniform(-0.04, 0.04, size=2))) for i in order
        ], "three"

    def scene(self, count: int = 1, nouns: list[str] | None = None, background: str | None = None,
              icons: list[Icon] | None = None) -> Scene:  # fmt: skip
        """A scene of ``count`` different nouns (or of the given ``nouns`` or ``icons``), with its caption."""
        rng = self.rng
        if icons is None:
            nouns = nouns or [str(n) for n in rng.choice(self.nouns, size=count, replace=False)]
            icons = [self.pick(noun) for noun in nouns]
        if background is None:
            kinds = list(PLACES) if rng.random() < 0.25 + 0.3 * self.spread else list(PLAIN)
            background = "white" if rng.random() < 0.15 else str(rng.choice(kinds))
        canvas = self.background(background)
        spots, arrangement = self.places(len(icons))
        items = [
            self.paste(canvas, icon, s * self.side, x * self.side, y * self.side)
            for icon, (s, x, y) in zip(icons, spots)
        ]
        return Scene(
            np.asarray(canvas), self.caption(icons, spots, arrangement, background), background, tuple(items)
        )

    def caption(self, icons: list[Icon], spots: list, arrangement: str, background: str) -> str:
        """What a person would write under the picture: never more than is in it, sometimes less."""
        rng = self.rng
        names = []
        for icon, (size, _, _) in zip(icons, spots):
            words = (
                [STYLES[icon.style][2]]
                if STYLES[icon.style][2] and rng.random() < 0.85 - 0.45 * self.spread
                else []
            )
            if len(icons) == 1 and size < 0.5 and rng.random() < 0.7:
                words.insert(0, "small")
            names.append(article(" ".join([*words, icon.noun])))
        if arrangement == "row" and rng.random() < 0.3:
            text = f"{names[0]} on the left and {names[1]} on the right"
        elif arrangement == "row" and rng.random() < 0.2:
            text = (
                f"{names[1]} to the right of {names[0]}"
                if rng.random() < 0.5
                else f"{names[0]} to the left of {names[1]}"
            )
        elif arrangement == "column" and rng.random() < 0.5:
            text = f"{names[0]} above {names[1]}" if rng.random() < 0.5 else f"{names[1]} below {names[0]}"
        else:
            names = [names[i] for i in rng.permutation(len(names))]
            joint = " next to " if len(names) == 2 and rng.random() < 0.2 else " and "
            text = names[0] if len(names) == 1 else ", ".join(names[:-1]) + joint + names[-1]
        if background in PLACES:
            text += f" {PLACES[background]}" if rng.random() < 0.97 - 0.12 * self.spread else ""
        elif rng.random() < (0.3 if background == "white" else 0.95 - 0.15 * self.spread):
            text += f" on {article(background)} background"
        return str(rng.choice(["a photo of ", "", "a picture of "], p=[0.6, 0.25, 0.15])) + text

    def photo_like(self) -> np.ndarray:
        """Dead leaves over coloured noise, blurred by chance: statistics of photographs, for the autoencoder alone."""
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
