"""Pictures of a class of one's own, such as many dogs, that take the place of drawn prior pairs
(regularization pictures).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from ..errors import ConceptWarning, PhotoError, SettingsError
from ..methods import METHODS
from ..settings import LearnSettings
from .captions import Captions, is_caption
from .decoding import decoded
from .folder import is_mask, listed
from .words import TOKEN_LIKE, class_prompt

MOST = 10_000


@dataclass(frozen=True)
class ClassPictures:
    """Files, and the prompt of each: its caption, or the plain one of the noun. ``digest`` is of all their
    bytes.
    """

    files: tuple[Path, ...]
    prompts: tuple[str, ...]
    digest: str

    @classmethod
    def read(cls, settings: LearnSettings, noun: str) -> ClassPictures:
        """What lies in ``settings.class_pictures``; warns where that is fewer than would be drawn. Raises
        SettingsError for a method without prior pairs, PhotoError for a folder or caption that cannot be
        used.
        """
        folder = Path(settings.class_pictures).expanduser()
        if METHODS[settings.method].prior == "nothing" or not settings.prior_weight:
            having = [name for name, row in METHODS.items() if row.prior != "nothing"]
            raise SettingsError(
                f"class_pictures = {folder}: method {settings.method!r} with prior_weight = "
                f"{settings.prior_weight:g} learns no prior pairs, whose place "
                f"they take; leave them out, or choose another method ({', '.join(having)})"
            )
        listing = listed(folder, "pictures of the class")
        captions = Captions(listing)
        files = tuple(path for path in listing if not (is_caption(path) or is_mask(path)))
        if not files or len(files) > MOST:
            raise PhotoError(f"{folder}: {len(files):,} pictures of the class; give 1 to {MOST:,}")
        if captions.problems:
            raise PhotoError(captions.problems[0])
        prompts, whole = [], hashlib.sha256()
        for path in files:
            caption = captions.of(path)[0]
            if caption and (named := TOKEN_LIKE.findall(caption)):
                raise PhotoError(
                    f"{path}: its caption says {named[0]}, but it is to show any {noun}; write {noun} there"
                )
            prompts.append(caption or class_prompt(noun))
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest() + prompts[-1].encode())
        if len(files) < settings.prior_pictures:
            warnings.warn(
                f"{folder}: {len(files)} pictures of the class, where {settings.prior_pictures} would be "
                "drawn (prior_pictures); so few are learnt by heart, "
                f"and the {noun} of plain prompts with them: give more",
                ConceptWarning,
                stacklevel=4,
            )
        return cls(files, tuple(prompts), whole.hexdigest())

    def squares(self, side: int) -> Iterator[Image.Image]:
        """The centre square of each, ``side`` pixels, one after another. Raises PhotoError for a file that is
        no picture.
        """
        for path in self.files:
            yield ImageOps.fit(decoded(path).image, (side, side), Image.Resampling.LANCZOS)
