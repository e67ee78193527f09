"""A learnt concept is changed once more: what may be, so that nothing of the others moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import SettingsError, TokenError
from ..methods import METHODS, SEPARABLE
from ..tuners import TUNERS

if TYPE_CHECKING:
    from .world import World


def check_again(world: World, token: str, noun: str, method: str) -> str:
    """The noun of ``token``. Raises TokenError for a concept that is not learnt or is no ``noun`` ("" for
    whatever it is), and SettingsError where its weights by ``method`` are others' too, or what is kept of it
    stands in the way.
    """
    if token not in world.concepts:
        raise TokenError(
            f"token {token!r}: {world.path} has learnt {', '.join(world.concepts) or 'nothing yet'}; to "
            "learn it leave more out"
        )
    if noun not in ("", known := world.concepts[token]):
        raise TokenError(f"noun {noun!r}: {world.path} has learnt {token} as a {known}; leave the noun out")
    others = ", ".join(other for other in world.concepts if other != token)
    if others and world.manifest.tuner not in SEPARABLE:
        raise SettingsError(
            f"{world.path}: concepts share their weights here ({world.manifest.tuner}), so that {token} "
            f"cannot change without {others}; go back to it "
            "with l2dm undo, or teach it anew in a world of its own"
        )
    if settles(method):
        raise SettingsError(
            f"method {method!r} has settled {token}, and keeps what it was from changing; undo it and learn "
            "it with more steps at once"
        )
    return known


def settles(method: str) -> bool:
    """Whether a concept that was learnt by ``method`` cannot be changed later: what is kept of it holds it,
    or its weights were cut to size.
    """
    row = METHODS[method]
    return row.penalty != "nothing" or row.directions or not TUNERS[row.tuner].goes_on
