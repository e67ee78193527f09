"""Text features while a token is learnt: prompts without it never change and are encoded once."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ..backbone import Backbone, Conditioning
from ..concept import Concept
from ..errors import PhotoError


def check_captions(concept: Concept, captions_only: bool, backbone: Backbone, vectors: int = 1) -> None:
    """A PhotoError that names a photo whose caption comes to the concept only after the words that the text
    encoder reads; ``vectors``: of its token, which is not known yet."""
    most = backbone.longest_prompt

    def count(prompt: str) -> int:
        words = " ".join(["a"] * vectors) if vectors > 1 else concept.token
        return backbone.count_tokens(prompt.replace(concept.token, words))

    for photo in concept.photos:
        for prompt in concept.prompts(photo, captions_only):
            if (length := count(prompt)) <= most:
                continue
            named = prompt[: prompt.index(concept.token)] + (
                concept.name if concept.name in prompt else concept.token
            )
            if (place := count(named)) > most:
                raise PhotoError(
                    f"{photo.path}: its caption has {length} tokens and names {concept.token} at number "
                    f"{place}; this base reads at most "
                    f"{most}, so shorten the caption or name the concept earlier"
                )


class Texts:
    """Calls the text encoder for the distinct prompts that hold a ``token`` that is learnt (else None), and a
    cache for all others.

    Each cached prompt is encoded alone, so that its features do not depend on what it was first met with: a
    learning that is taken up again sees the same numbers to the last bit.
    """

    def __init__(self, backbone: Backbone, token: str | None):
        self.backbone, self.token = backbone, token
        self.cache: dict[str, Conditioning] = {}

    def __call__(self, prompts: list[str]) -> Conditioning:
        """A row for each of ``prompts``; gradients reach the token's vector. In float32 whatever the rest: a
        few small products, which in bfloat16 are no faster and keep code of their own for each number of
        prompts.
        """
        with torch.autocast(self.backbone.device.type, enabled=False):
            changing = [p for p in dict.fromkeys(prompts) if self.token is not None and self.token in p]
            read = {}
            if changing:
                rows = self.backbone.read(changing)
                read = {prompt: rows[i : i + 1] for i, prompt in enumerate(changing)}
            self._keep([prompt for prompt in prompts if prompt not in read])
        return Conditioning.cat([read[p] if p in read else self.cache[p] for p in prompts])

    def keep(self, prompts: Iterable[str]) -> None:
        """Cache these ``prompts``, of which none changes."""
        with torch.autocast(self.backbone.device.type, enabled=False):
            self._keep(list(prompts))

    @torch.no_grad()
    def _keep(self, prompts: list[str]) -> None:
        if new := [prompt for prompt in dict.fromkeys(prompts) if prompt not in self.cache]:
            with self.backbone.aside.back():
                self.cache |= {prompt: self.backbone.read([prompt]) for prompt in new}
