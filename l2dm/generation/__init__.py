"""Drawing: prompts with personal tokens in, pictures with their provenance out."""

from .mentions import Mention, mentions
from .picture import Picture, contact_sheet
from .prompt import check_length, personal_tokens
from .sampler import draw

__all__ = ["Mention", "Picture", "check_length", "contact_sheet", "draw", "mentions", "personal_tokens"]
