"""The interface of all tuners."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType

import torch

from ..backbone import Backbone
from ..concept import Concept
from ..errors import SettingsError
from ..settings import LearnSettings
from .factors import Factors

#: Reads a concept's own tensors.
ReadAdapter = Callable[[], dict[str, torch.Tensor]]


class Tuner:
    """Names the weights that learning may change and remembers their pretrained values.

    ``parameters`` is what is trained now. The new token's vector is tuned by every tuner and is not among
    them. This class changes the backbone's own weights in place; ``AdapterTuner`` leaves them alone.
    """

    parameters: dict[str, torch.nn.Parameter]
    #: Whether any of the backbone's own weights are changed.
    changes_weights = True
    #: Whether a concept's own tensors are read only when they are to act.
    by_need = False
    #: Whether a concept that it has settled can be trained on (``resume``).
    goes_on = True
    #: What a concept loses where this tuner does not read its prompts; "" where nothing.
    loses = ""

    #: Of concepts whose own tensors were not read yet, what reads them.
    later: Mapping[str, ReadAdapter] = MappingProxyType({})

    def __init__(self, backbone: Backbone):
        if self.changes_weights:
            backbone.hold_in(torch.float32)
        self.parameters = self.select(backbone)
        self.pretrained_values = self.values()

    def select(self, backbone: Backbone) -> dict[str, torch.nn.Parameter]:
        raise NotImplementedError

    def begin(self, concept: Concept, settings: LearnSettings) -> None:
        """Make ready for ``concept``: a tuner that grows by task adds here what will be trained. The same
        state, concept and settings always give the same start, so that a stopped learning can be taken up."""

    def resume(self, concept: Concept, settings: LearnSettings) -> None:
        """As ``begin``, for a concept that this state has learnt already, whose weights are trained on."""
        self.begin(concept, settings)

    def finish(self) -> None:
        """After the last step: settle what was grown."""

    def values(self) -> dict[str, torch.Tensor]:
        """Copies of the tuned weights as they are now, on their device."""
        return {name: p.detach().clone() for name, p in self.parameters.items()}

    def state(self) -> dict[str, torch.Tensor]:
        """The tuned values now, on the CPU: what a world's version keeps. Names that begin with ``<token>/``
        are that concept's own and go when it is forgotten."""
        return {name: t.cpu() for name, t in self.values().items()}

    @torch.no_grad()
    def load(
        self, state: dict[str, torch.Tensor], later: Mapping[str, ReadAdapter] = MappingProxyType({})
    ) -> None:
        """Put ``state`` (from ``state()``) in place; an empty state means the pretrained values. ``later``:
        of concepts whose own tensors are not in it, what reads them, with a tuner that reads them
        ``by_need``.
        """
        for name, p in self.parameters.items():
            p.copy_(state[name] if state else self.pretrained_values[name])

    def at_hand(self, tokens: Iterable[str]) -> None:
        """Read what ``tokens`` have of their own, where it was not yet."""

    def low_rank(self, tokens: Sequence[str]) -> dict[str, Factors]:
        """What ``tokens`` teach the denoiser's layers, by name, as it acts where their prompts' own words are
        all that is read. Raises SettingsError where that is no change of low rank."""
        raise SettingsError(
            f"{', '.join(tokens)}: what was learnt is in all of the denoiser's weights, and no LoRA file "
            "holds that; export it with "
            "--format pipeline"
        )

    def of_text(self, tokens: Sequence[str]) -> dict[str, Factors]:
        """What ``tokens`` change in the text encoders, by ``backbone.encoder_layers``: nothing but what came
        from elsewhere.
        """
        return {}

    def merged(
        self, tokens: Sequence[str], plain: Mapping[str, torch.Tensor], strength: float = 1.0
    ) -> dict[str, torch.Tensor]:
        """The denoiser's changed weights, with ``strength`` times what ``tokens`` teach; ``plain``: the
        base's, by their names in it.
        """
        return {
            name: p.detach() if strength == 1 else torch.lerp(plain[name].to(p), p.detach(), strength)
            for name, p in self.parameters.items()
        }

    @contextmanager
    def holding(self, state: dict[str, torch.Tensor]) -> Iterator[None]:
        """Within the block the tuned weights are ``state``, by reference: nothing is copied."""
        now = {name: p.data for name, p in self.parameters.items()}
        for name, p in self.parameters.items():
            p.data = state[name]
        try:
            yield
        finally:
            for name, p in self.parameters.items():
                p.data = now[name]

    def pretrained(self) -> AbstractContextManager[None]:
        """Within the block the backbone is the pretrained one again."""
        return self.holding(self.pretrained_values)
