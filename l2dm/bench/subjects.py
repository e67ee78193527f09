"""What a benchmark is about: concepts to learn, unseen pictures of them, look-alikes, prompts, nouns of the
base.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..concept.folder import SUFFIXES
from ..errors import SettingsError

SHIPPED = Path(__file__).parent / "concepts"


@dataclass(frozen=True)
class Subject:
    """One concept: ``learn`` and ``unseen`` are folders of pictures."""

    name: str
    token: str
    noun: str
    learn: Path
    unseen: Path

    @property
    def words(self) -> str:
        return f"{self.token} {self.noun}"


@dataclass(frozen=True)
class Subjects:
    """A folder of concepts as ``concepts.json`` describes it."""

    folder: Path
    concepts: tuple[Subject, ...]
    prompts: tuple[str, ...]
    like: dict[str, tuple[Path, ...]]  # noun -> folders of other things of that noun
    nouns: tuple[str, ...]

    @classmethod
    def read(cls, folder: str) -> Subjects:
        """A folder, or "shipped": the ten in the package. Raises SettingsError when it is not a benchmark."""
        path = (SHIPPED if folder == "shipped" else Path(folder)) / "concepts.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            concepts = tuple(
                Subject(
                    c["name"],
                    c["token"],
                    c["noun"],
                    path.parent / c["name"] / "learn",
                    path.parent / c["name"] / "unseen",
                )
                for c in record["concepts"]
            )
            like: dict[str, tuple[Path, ...]] = {}
            for name, noun in record["like"].items():
                like[noun] = (*like.get(noun, ()), path.parent / "like" / name)
            return cls(path.parent, concepts, tuple(record["prompts"]), like, tuple(record["nouns"]))
        except FileNotFoundError:
            raise SettingsError(
                f"{path}: no such file; --concepts takes a folder with a concepts.json"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SettingsError(f"{path}: not a description of concepts ({error!r})") from None


def pictures(folder: Path) -> list[Image.Image]:
    """Those of ``folder``, in the order of their names."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return [Image.open(path).convert("RGB") for path in files]
