"""The tour of the lecture: pages that work offline, from the numbers of one run. Nothing here trains a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retain.files import write_atomically
from retain.lecture import Lecture
from retain.tour.page import render
from retain.tour.pictures import pictures
from retain.tour.tables import tables
from retain.tour.words import LANGUAGES

__all__ = ["LANGUAGES", "pictures", "write_tour"]


def write_tour(lecture: Lecture, folder: Path, languages: Sequence[str] = tuple(LANGUAGES)) -> list[Path]:
    """Write `tour.LANG.html` for each language, `pictures/*.svg` in the first of them, and `data/*.csv`.

    Returns:
        The pages, in the order of the languages.

    Raises:
        ValueError: no language, one twice, or one that there is not.
        OSError: `folder` cannot be written.
    """
    if not languages or len(set(languages)) < len(languages) or not set(languages) <= set(LANGUAGES):
        raise ValueError(
            f"languages must be some of {', '.join(LANGUAGES)}, each once, got {', '.join(languages) or 'none'}"
        )
    pages = []
    for language in languages:
        pages.append(folder / f"tour.{language}.html")
        others = [other for other in languages if other != language]
        write_atomically(pages[-1], render(lecture, language, others).encode())
    for name, picture in pictures(lecture, languages[0]).items():
        write_atomically(folder / "pictures" / f"{name}.svg", picture.svg().encode())
    for name, text in tables(lecture).items():
        write_atomically(folder / "data" / f"{name}.csv", text.encode())
    return pages
