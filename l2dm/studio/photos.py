"""Photos that were given to the Teach page: kept under names of our own until they become part of a job, each
with what ``check`` says.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..concept import check_photos
from ..concept.captions import LONGEST
from ..concept.captions import SUFFIXES as CAPTIONS
from ..concept.decoding import SUFFIXES
from ..concept.folder import MASK, is_mask
from ..concept.photos import MOST
from ..errors import PhotoError
from ..files import write_whole
from .folder import FILE, ID, StudioFolder, inside, new_id

MASKED = "it has a mask, which is used where the setting masks says beside"
CROP = 256  # pixels a side of the square that is shown


@dataclass(frozen=True)
class Verdict:
    """What ``check`` says of one file: ``problem`` is empty where it can be learnt from."""

    file: str
    name: str
    problem: str = ""
    notes: tuple[str, ...] = ()
    caption: str = ""
    size: tuple[int, int] = (0, 0)


class PhotoSet:
    """A folder of photos under construction."""

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def new(cls, folder: StudioFolder) -> PhotoSet:
        path = folder.photos / new_id()
        path.mkdir()
        return cls(path)

    @classmethod
    def get(cls, folder: StudioFolder, id: str) -> PhotoSet | None:
        path = inside(folder.photos, id, ID)
        return cls(path) if path else None

    @classmethod
    def copy(cls, folder: StudioFolder, photos: Path) -> PhotoSet:
        """The photos of a job once more."""
        path = folder.photos / new_id()
        shutil.copytree(photos, path)
        return cls(path)

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def files(self) -> list[str]:
        """Our own names of the photos, in the order in which they came."""
        return sorted(
            p.name for p in self.path.iterdir() if FILE.fullmatch(p.name) and p.suffix not in CAPTIONS
        )

    @property
    def names(self) -> dict[str, str]:
        """Our own name -> the user's."""
        with suppress(OSError, ValueError):
            return json.loads((self.path / ".names.json").read_text(encoding="utf-8"))
        return {}

    def add(self, uploads: Iterable[tuple[str, BinaryIO]]) -> None:
        """Keep files, and the captions and masks among them with the photo of the same name. Raises
        PhotoError when they are too many.
        """
        uploads, names = list(uploads), self.names
        masks = [(name, file) for name, file in uploads if is_mask(Path(name))]
        photos = [
            (name, file)
            for name, file in uploads
            if Path(name).suffix.lower() not in CAPTIONS and (name, file) not in masks
        ]
        if len(self.files) + len(photos) > MOST:
            raise PhotoError(
                f"{len(self.files) + len(photos)} photos; a concept takes at most {MOST} (3 to 5 are best): "
                "choose the best"
            )
        last = max((int(file.split(".")[0]) for file in names), default=0)
        for number, (name, file) in enumerate(photos, last + 1):
            suffix = Path(name).suffix.lower()
            own = f"{number:02d}{suffix if suffix in SUFFIXES else '.file'}"
            with (self.path / own).open("xb") as target:
                shutil.copyfileobj(file, target)
            names[own] = name[-200:] or own
        stems = {Path(name).stem: own for own, name in names.items()}
        for name, file in masks:
            if own := stems.get(Path(name).name[: -len(MASK)]):
                with self.mask_path(own).open("wb") as target:
                    shutil.copyfileobj(file, target)
        for name, file in uploads:
            if Path(name).suffix.lower() in CAPTIONS and (own := stems.get(Path(name).stem)):
                self.caption(own, file.read(4 * LONGEST).decode("utf-8", errors="replace"))
        write_whole(self.path / ".names.json", json.dumps(names, ensure_ascii=False).encode())

    def caption(self, file: str, text: str) -> None:
        """Set, or with an empty ``text`` remove, a photo's caption."""
        if file in self.files:
            place, text = (
                (self.path / file).with_suffix(".txt"),
                " ".join(text.replace("\x00", " ").split())[:LONGEST],
            )
            place.write_text(text, encoding="utf-8") if text else place.unlink(missing_ok=True)

    def remove(self, file: str) -> None:
        if file in self.files:
            for path in (
                self.path / file,
                (self.path / file).with_suffix(".txt"),
                self.mask_path(file),
                self.crop_path(file),
            ):
                path.unlink(missing_ok=True)

    def mask_path(self, file: str) -> Path:
        return self.path / f"{Path(file).stem}{MASK}"

    def crop_path(self, file: str) -> Path:
        return self.path / "crops" / f"{file.split('.')[0]}.png"

    def check(self) -> list[Verdict]:
        """What the library says of each photo, under the names that the user knows."""
        names, files = self.names, self.files
        report = check_photos(self.path)
        usable = {photo.path.name: photo for photo in report.photos}

        def told(sentence: str) -> str:
            sentence = sentence.replace(f"{self.path}/", "")
            for own in files:
                sentence = sentence.replace(own, names.get(own, own))
            return sentence

        verdicts = []
        for file in files:
            if photo := usable.get(file):
                crop = self.crop_path(file)
                if not crop.exists():
                    crop.parent.mkdir(exist_ok=True)
                    photo.square(CROP).save(crop)
                verdicts.append(
                    Verdict(
                        file,
                        names.get(file, file),
                        "",
                        (*map(told, photo.notes), *([MASKED] if self.mask_path(file).exists() else [])),
                        photo.caption or "",
                        photo.size,
                    )
                )
                continue
            start = f"{self.path / file}: "
            problem = next(
                (line.removeprefix(start) for line in report.problems if line.startswith(start)),
                "cannot be used",
            )
            verdicts.append(Verdict(file, names.get(file, file), told(problem)))
        return verdicts


def sweep(folder: StudioFolder) -> None:
    """Remove photos that never became part of a job, when a studio opens."""
    for path in folder.photos.glob("[0-9]*"):
        shutil.rmtree(path, ignore_errors=True)
