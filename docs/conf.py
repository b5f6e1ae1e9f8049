"""The documentation as a site: `make docs` writes it to out/site, offline and strictly.

Its pages are the repository's own Markdown files, so that each link works here as it does on GitHub. What GitHub has
no use for is added while a page is read: the tables of contents, and the class below each method.
"""

from __future__ import annotations

from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from retain.cli.flags import comments
from retain.method import Method
from retain.methods import discover

ROOT = Path(__file__).parents[1]

project = "retain"
html_title = "retain"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = [
    "README*.md",
    "CHANGELOG.md",
    "docs/**",
    "benchmarks/*.md",
    "src/retain/streams/mnist/*.md",
]
exclude_patterns = [".*", "out", "tests", "docs/*.py"]  # the first ones are walked through otherwise
html_theme = "furo"
html_show_search_summary = False  # a page opened as a file may not fetch others
html_additional_pages = {"index": "forward.html"}  # out/site/index.html leads to docs/index.html
templates_path, html_static_path = ["templates"], ["static"]
html_js_files, html_css_files = ["reach.js"], ["text.css"]
html_show_copyright = html_show_sphinx = html_copy_source = False
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"

myst_heading_anchors = 3
default_role = "code"  # `this` in a docstring
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"

nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!retain\.).*"),  # other people's names: no network, so nothing to look them up in
    # types of our own that are inside
    (
        "py:class",
        r"retain\.(method\.S|stepper\.Stepper|optim\.Descent|run\.Course|streams\.own\.SizedDataset)",
    ),
    ("py:class", r"retain\.vault\.(store\.Store|data\.raw\.Raw)"),
]

KNOWN = {
    "Tutorials": ["tutorial-*"],
    "Reference": [
        "reference/README", "methods/README", "streams/README", "metrics", "result-schema", "vault-record",
    ],
    "Measured": ["reproduction", "speed", "../benchmarks/README"],
    "The house": ["architecture", "add-a-method", "../CHANGELOG", "../src/retain/streams/mnist/LICENSE-DATA"],
}  # fmt: skip
BELOW = {
    "docs/methods/README",
    "docs/streams/README",
    "docs/reference/README",
}  # their own folder's pages stand below them


def contents() -> dict[str, list[str]]:
    """The pages below each heading: those of KNOWN, and among "How to" whatever else lies in docs/."""
    docs = ROOT / "docs"
    known = {
        heading: [page for name in names for page in (_matching(docs, name) if "*" in name else [name])]
        for heading, names in KNOWN.items()
    }
    taken = {"index", *(page for pages in known.values() for page in pages)}
    others = [page for page in _matching(docs, "*") if page not in taken]
    tutorials = known.pop("Tutorials")
    return {"Tutorials": tutorials, "How to": others, **known}


def _matching(folder: Path, pattern: str) -> list[str]:
    return sorted(p.stem for p in folder.glob(f"{pattern}.md"))


def toctree(caption: str, pages: list[str]) -> str:
    """A hidden table of contents, which is the site's navigation."""
    return "\n".join(
        [
            "",
            "```{toctree}",
            ":hidden:",
            *([f":caption: {caption}"] if caption else []),
            "",
            *pages,
            "```",
            "",
        ]
    )


def add(app: Any, name: str, source: list[str]) -> None:
    """Add to a page what GitHub has no use for."""
    if name == root_doc:
        source[0] += toctree("", ["README <../README>", "中文 <../README.zh>"]) + "".join(
            toctree(*part) for part in contents().items()
        )
    elif name in BELOW:
        pages = _matching(ROOT / Path(name).parent, "*")
        source[0] += toctree("", [p for p in pages if p != "README"])
    elif name.startswith("docs/methods/"):
        kind = discover()[Path(name).name]
        source[0] += f"\n## In Python\n\n```{{eval-rst}}\n.. autoclass:: retain.{kind.__name__}\n```\n"


def level(app: Any, name: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Say how deep the captions of the navigation stand, which a heading by role has to say."""
    navigation = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = navigation.replace('role="heading"', 'role="heading" aria-level="2"')


def speak(app: Any, name: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Say in which language a page is that is not in the site's."""
    if name.endswith(".zh"):
        context["language"] = "zh-CN"


def describe(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Add the comments behind a class's fields to its docstring. A method's page has its own already."""
    if what != "class":
        return
    if issubclass(thing, Method) and thing in discover().values():
        lines.clear()
    elif (is_dataclass(thing) or hasattr(thing, "_fields")) and "Args:" not in lines:
        fields = [f"    {field}: {said}" for field, said in comments(thing).items() if said]
        lines += ["", "Args:", *fields] if fields else []


def skip(app: Any, what: str, name: str, thing: Any, skipped: bool, options: Any) -> bool:
    """Leave out a NamedTuple's fields, which `describe` has listed."""
    return skipped or (thing.__doc__ or "").startswith("Alias for field number")


def setup(app: Any) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("source-read", add)
    app.connect("autodoc-process-docstring", describe, priority=400)  # before napoleon reads the sections
    app.connect("html-page-context", level, priority=600)  # after the theme has made it
    app.connect("html-page-context", speak)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True}
