"""A Hugging Face data set, as `save_to_disk` wrote it.

The Arrow files are read as they are. No loading script is run, nothing is fetched, and nothing outside of
the folder is opened: an image that is only a path is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retain.vault.data.arrow import ArrowColumn, arrow, tampered
from retain.vault.data.cells import Column
from retain.vault.data.files import inside, opened, within_memory
from retain.vault.data.images import gathered
from retain.vault.data.raw import Asked, Raw, from_columns
from retain.vault.data.tables import LESS, MOST_COLUMNS, check_names
from retain.vault.data.words import listed, short
from retain.vault.errors import BadData

# a folder with one of these is such a data set
MARKS = ("dataset_dict.json", "state.json", "dataset_info.json")
MOST_BYTES = 2**26  # of its JSON


def read_saved(folder: Path, asked: Asked) -> Raw:
    """A data set of images with labels, or a table of numbers, classes and words.

    Raises:
        BadData: names the column, or the row, that is not as it must be.
        NoArrow: pyarrow is not installed.
    """
    folder = _split(folder, asked.split)
    features = _json(folder, "dataset_info.json").get("features")
    if not isinstance(features, dict) or not all(isinstance(f, dict | list) for f in features.values()):
        raise BadData(
            f"{folder} does not say what its columns are: write it with datasets.Dataset.save_to_disk"
        )
    names = [n for n in features if n not in asked.ignore]
    if len(features) > MOST_COLUMNS:
        raise BadData(f"{folder} has {len(features)} columns, more than {MOST_COLUMNS:,}")
    check_names(list(features), str(folder))
    pictured = [n for n in names if _kind(features[n]) == "Image"]
    if len(pictured) > 1:
        raise BadData(
            f"{folder} has images in {listed(pictured)}: keep one, and leave out the others (--ignore COLUMN)"
        )
    sha = hashlib.sha256()
    columns, contents = _read(folder, features, names, pictured, sha)
    images = gathered(contents, str(folder), asked.size) if pictured else None
    return from_columns(columns, asked, lambda i: f"{folder.name}[{i}]", str(folder), sha.hexdigest(), images)


def _kind(feature: Any) -> str:
    return str(feature.get("_type", "a nested value")) if isinstance(feature, dict) else "a list"


def _split(folder: Path, split: str | None) -> Path:
    """The folder of one split; the data set's own where it has none."""
    if not (folder / MARKS[0]).exists():
        if split is not None:
            raise BadData(f"{folder} has no splits, so none is called {split!r}: leave it out")
        return folder
    splits = _json(folder, MARKS[0]).get("splits")
    if not isinstance(splits, list) or not all(_is_name(s) for s in splits):
        raise BadData(f"{folder / MARKS[0]} does not list the data set's splits")
    wanted = split or ("train" if "train" in splits else splits[0] if len(splits) == 1 else None)
    if wanted not in splits:
        raise BadData(f"{folder} has the splits {listed(splits)}: say which (--split NAME)")
    return inside(folder / str(wanted), folder)


def _is_name(name: object) -> bool:
    """Whether this is the plain name of a file: no folder, and none above."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}


def _json(folder: Path, name: str) -> dict[str, Any]:
    path = inside(folder / name, folder)
    with opened(path) as (f, _):
        data = f.read(MOST_BYTES + 1)
    try:
        if len(data) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        d = json.loads(data)
        if not isinstance(d, dict):
            raise ValueError("it is not an object")
    except (ValueError, RecursionError) as e:
        raise BadData(f"{path} is no JSON of a data set: {e}") from None
    return d


def _files(folder: Path) -> list[Path]:
    state = _json(folder, "state.json")
    if state.get("_indices_data_files"):
        raise BadData(
            f"{folder} was written by an old datasets as rows of another one: load it and save it anew"
        )
    listing = state.get("_data_files")
    names = [d.get("filename") if isinstance(d, dict) else None for d in listing or []]
    if not isinstance(listing, list) or not names or not all(_is_name(n) for n in names):
        raise BadData(
            f"{folder / 'state.json'} names its files {short(names)}; each must lie in the folder itself"
        )
    return [inside(folder / str(n), folder) for n in names]


def _read(
    folder: Path, features: dict[str, Any], names: list[str], pictured: list[str], sha: hashlib._Hash
) -> tuple[dict[str, Column], list[tuple[str, bytes]]]:
    """Its columns but for the images, and each image's content, with what it is called."""
    pa = arrow("pyarrow", "Hugging Face data sets")
    columns: dict[str, ArrowColumn] = {}
    contents: list[tuple[str, bytes]] = []
    total = 0
    for path in _files(folder):
        with opened(path) as (f, digest), tampered(f"{path} is no Arrow file that can be read"):
            sha.update(f"{path.name}\0{digest}\n".encode())
            for batch in _batches(pa, f, names, path):
                total += batch.nbytes
                within_memory(total, str(folder), LESS)
                for name in names:
                    if name in pictured:
                        contents += _contents(batch.column(name), folder, len(contents))
                        continue
                    kind = batch.schema.field(name).type
                    classes = _classes(features[name], name, folder)
                    columns.setdefault(name, ArrowColumn(kind, name, str(folder), classes))
                    columns[name].add(batch.column(name))
    if total == 0:
        raise BadData(f"{folder} holds no example: it needs at least one")
    return {n: c.column() for n, c in columns.items()}, contents


def _batches(pa: Any, f: Any, names: list[str], path: Path) -> Iterator[Any]:
    with pa.ipc.open_stream(f) as stream:
        missing = set(names) - set(stream.schema.names)
        if missing:
            raise BadData(f"{path} lacks the columns {listed(sorted(missing))} that dataset_info.json names")
        for batch in stream:
            batch.validate(full=True)  # offsets and lengths are the file's own
            if batch.num_rows:
                yield batch


def _classes(feature: Any, name: str, folder: Path) -> list[str] | None:
    """What the numbers of a ClassLabel stand for; None for a column of plain values."""
    kind = _kind(feature)
    if kind == "Value":
        return None
    names = feature.get("names") if kind == "ClassLabel" else None
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise BadData(
            f"{folder}: column {name!r} is {short(kind)}; read are images, classes (ClassLabel) and plain values: "
            f"leave it out (--ignore {name})"
        )
    return names


def _contents(values: Any, folder: Path, before: int) -> list[tuple[str, bytes]]:
    """The bytes of each image of a column of Image, a struct of bytes and path."""
    found = []
    for i, v in enumerate(values.to_pylist(), before):
        data = v.get("bytes") if isinstance(v, dict) else None
        if not isinstance(data, bytes):
            raise BadData(
                f"{folder.name}[{i}] has no image in it, at most a path ({short(v and v.get('path'))}), which is not "
                "followed: save the data set with its images in it"
            )
        found.append((f"{folder.name}[{i}]", data))
    return found
