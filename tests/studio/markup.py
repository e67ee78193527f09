"""What a page is made of: the tags that a browser would see, and the fields of its forms."""

from __future__ import annotations

from html.parser import HTMLParser

#: Ends whatever it may stand in, and begins an element and an attribute that no page of ours has.
EVIL = "\"'>--></textarea></title></script><evil-tag onevil=1>&{{7*7}}"


class Page(HTMLParser):
    """``tags``: (name, attributes) of all; ``forms``: (action, field -> value) of each that is posted."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.forms: list[tuple[str, dict[str, str]]] = []
        self._form: dict[str, str] | None = None
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        if tag == "form":
            self._form = {}
            self.forms.append((found.get("action", ""), self._form))
        name = found.get("name")
        if self._form is None or (not name and tag != "option"):
            return
        if tag == "input" and found.get("type") != "file":
            chosen = found.get("type") not in ("radio", "checkbox") or "checked" in found
            if chosen or name not in self._form:
                self._form[name] = found.get("value") or ("on" if found.get("type") == "checkbox" else "")
        elif tag in ("textarea", "select"):
            self._form[name], self._in = "", name
        elif tag == "button":
            self._form[name] = found.get("value") or ""
        elif tag == "option" and "selected" in found and "value" in found:
            self._form[self._in] = found["value"] or ""

    def handle_data(self, data):
        if self._in and self._form is not None and self.tags[-1][0] == "textarea":
            self._form[self._in] = data
        elif self._in and self._form is not None and "selected" in self.tags[-1][1]:
            self._form[self._in] = self._form[self._in] or data

    def handle_endtag(self, tag):
        if tag in ("textarea", "select"):
            self._in = ""
        elif tag == "form":
            self._form = None


def is_clean(text: str) -> bool:
    """Whether nothing of ``EVIL`` became markup: as an element, an attribute, a script, or a template."""
    tags = Page(text).tags
    return (
        not any(
            tag == "evil-tag"
            or any(name.startswith("on") for name in found)
            or (tag == "script" and not (found.get("src") or "").startswith("/static/"))
            for tag, found in tags
        )
        and "&amp;49" not in text
    )
