"""Drawing: prompts with personal tokens in, pictures with their provenance out."""

from .attention_recorder import AttentionRecorder, AttentionSnapshot
from .composition import Composition, check_layout, provenance, resolve_composition
from .layout import laid_out, overlaps
from .mentions import Mention, mentions, single_subject_prompts
from .picture import Picture, contact_sheet
from .prompt import bare_names, check_length, personal_tokens, without_escapes
from .sampler import draw, long_work

__all__ = [
    "AttentionRecorder",
    "AttentionSnapshot",
    "Composition",
    "Mention",
    "Picture",
    "bare_names",
    "check_layout",
    "check_length",
    "contact_sheet",
    "draw",
    "laid_out",
    "long_work",
    "mentions",
    "overlaps",
    "personal_tokens",
    "provenance",
    "resolve_composition",
    "single_subject_prompts",
    "without_escapes",
]
