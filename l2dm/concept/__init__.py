"""What is to be learnt: photos, captions, a token and a class noun."""

from .concept import Concept
from .photos import Photo, PhotoReport, check_photos, shrunken
from .words import check_noun, check_token

__all__ = ["Concept", "Photo", "PhotoReport", "check_noun", "check_photos", "check_token", "shrunken"]
