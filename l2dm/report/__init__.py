"""Pictures and pages to look at. Never imports torch."""

from .page import Page

__all__ = ["Page"]
