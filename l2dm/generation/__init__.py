"""Drawing: prompts with personal tokens in, pictures with their provenance out."""

from .picture import Picture, contact_sheet
from .prompt import check_length, personal_tokens
from .sampler import draw

__all__ = ["Picture", "check_length", "contact_sheet", "draw", "personal_tokens"]
