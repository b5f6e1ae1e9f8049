"""A page that writes down everything that ought not to happen."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Visit:
    """Opens the page, and notes console messages, errors, dialogs and every request but that for the page itself."""

    def __init__(self, browser: Any, path: Path, width: int = 1440, scheme: str = "light") -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.complaints: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(f"{m.type}: {m.text}"))
        self.page.on("pageerror", lambda e: self.complaints.append(f"error: {e}"))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda r: self._request(r.url))
        self.own = path.as_uri()
        self.page.goto(self.own)

    def _dialog(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, url: str) -> None:
        if not self.may_ask_for(url):
            self.complaints.append(f"request: {url}")

    def may_ask_for(self, url: str) -> bool:
        return url == self.own

    def sees(self, script: str) -> Any:
        return self.page.evaluate(script)

    def printed(self) -> int:
        """How many sheets it takes on paper, where it is black on white; stays as it is printed."""
        paper: bytes = self.page.pdf(format="A4")
        assert paper.startswith(b"%PDF")
        self.page.emulate_media(media="print")
        assert self.sees("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        return paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page/")
