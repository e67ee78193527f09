"""Drawing: prompts with personal tokens in, pictures with their provenance out."""

from .glances import Glance, Glances
from .guided import chosen
from .mentions import Mention, mentions
from .picture import Picture, contact_sheet
from .prompt import check_length, personal_tokens
from .sampler import draw

__all__ = [
    "Glance",
    "Glances",
    "Mention",
    "Picture",
    "check_length",
    "chosen",
    "contact_sheet",
    "draw",
    "mentions",
    "personal_tokens",
]
