"""A concept: photos of one thing, the token that will call it, and the noun of its class."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from PIL import Image

from ..errors import PhotoError
from .captions import check_caption
from .photos import Photo, Photos, check_photos, no_masks
from .words import TEMPLATES, caption_for, check_noun, check_token


@dataclass(frozen=True)
class Concept:
    """Task k of the method: D^k = {(x_i, p_i)}, a token V* and its class noun."""

    token: str
    noun: str
    photos: tuple[Photo, ...]

    @classmethod
    def read(
        cls,
        given: Photos,
        token: str,
        noun: str,
        skip_bad: bool = False,
        known: Collection[str] = (),
        masks: str = "",
    ) -> Concept:
        """Check everything and read the photos, with their ``masks`` as ``check_photos`` has them; raises
        PhotoError or TokenError. ``known``: other tokens that captions may name."""
        token, noun = check_token(token), check_noun(noun)
        photos = check_photos(given, masks).usable(skip_bad)
        if masks and not any(photo.mask for photo in photos):
            raise PhotoError(no_masks(masks))
        for photo in photos:
            check_caption(photo.path, photo.caption or "", token, noun, known)
        return cls(token, noun, photos)

    @property
    def name(self) -> str:
        """What prompts say: ``<rex> dog``."""
        return f"{self.token} {self.noun}"

    def prompts(self, photo: Photo, captions_only: bool = False) -> list[str]:
        """The sentences that ``photo`` is learnt with: its own caption and the plain one (else what the
        caption tells is never learnt as the concept's own), or the templates. ``captions_only`` leaves the
        plain one out.
        """
        if photo.caption:
            own = caption_for(photo.caption, self.token, self.noun)
            return [own] if captions_only else [own, TEMPLATES[0].format(self.name)]
        return [template.format(self.name) for template in TEMPLATES]

    @property
    def digest(self) -> str:
        """Identifies photos, captions, token and noun; a stopped learning goes on only with the same."""
        parts = [self.token, self.noun, *(f"{p.digest} {p.caption}" for p in self.photos)]
        parts += [f"{p.digest} masked by {_digest(p.mask)}" for p in self.photos if p.mask]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _digest(mask: Image.Image) -> str:
    return hashlib.sha256(mask.tobytes()).hexdigest()
