"""Files that were tampered with: each is read or refused, quickly, in bounded memory, and nothing else happens.

RETAIN_FUZZ=10000 tries as many; a few hundred otherwise.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import struct
import sys
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.numpy import save

from retain.vault.data import Labels, Preprocessing, read
from retain.vault.errors import BadData, Damaged

CASES = int(os.environ.get("RETAIN_FUZZ", "300"))
LONGEST = 10.0  # seconds that one file may take, on a machine that does other things, too
MOST_MEMORY = 2**30  # bytes by which the process may grow
HOSTILE = [
    "../outside",
    "/etc/passwd",
    "..",
    "x/../../y",
    "\0",
    "a" * 300,
    "é\u202e",
    "-1",
    "NaN",
    "1e999",
    "[]",
]
FORBIDDEN = {
    "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class", "os.remove",
    "os.mkdir", "os.rename", "os.symlink", "os.link", "os.chmod", "shutil.rmtree", "socket.connect", "ctypes.dlopen",
}  # fmt: skip

watched: list[str] | None = None  # what was noticed, while something is watched
allowed: list[str] = []  # where files may be opened to read


def _notice(event: str, args: tuple[Any, ...]) -> None:
    if watched is None:
        return
    if event in FORBIDDEN:
        watched.append(f"{event} {args!r}")
    if event == "open" and isinstance(args[0], str | bytes):
        path, flags = os.fsdecode(args[0]), args[2]
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes or not any(path.startswith(a) for a in allowed):
            watched.append(f"open {path} {flags}")


sys.addaudithook(_notice)  # it stays for as long as the process, and is idle but for the tests below


@contextmanager
def watching(folder: Path) -> Iterator[list[str]]:
    """What is opened outside of a folder and the libraries, or done that reading a file never does."""
    global watched
    allowed[:] = [str(folder), *(p for p in sys.path if p), sys.prefix, sys.base_prefix]
    found: list[str] = []
    watched = found
    try:
        yield found
    finally:
        watched = None


# --- files to begin with, and what is done to them ---------------------------------------------------


def picture(kind: str, rng: random.Random) -> bytes:
    mode = rng.choice(["L", "RGB", "P", "1"]) if kind not in ("JPEG", "WEBP", "PPM") else "RGB"
    data = np.random.default_rng(rng.randrange(99)).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(data).convert(mode).save(out, kind)
    return out.getvalue()


def with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what is in them, so that a change is not noticed by these."""
    out, at = [data[:8]], 8
    while at + 12 <= len(data):
        size = min(struct.unpack(">I", data[at : at + 4])[0], len(data) - at - 12)
        body = data[at + 4 : at + 8 + size]
        out.append(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + size
    return b"".join(out) + data[at:]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut, doubled or put in."""
    b = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at = rng.randrange(len(b) + 1)
        end = min(len(b), at + rng.choice([1, 2, 4, 8, 64]))
        kind = rng.randrange(7)
        if kind == 0 and at < len(b):
            b[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            b[at:end] = rng.randbytes(end - at)
        elif kind == 2:
            del b[at:end]
        elif kind == 3:
            b[at:at] = b[at:end] * rng.choice([1, 2, 50])
        elif kind == 4:
            b[at:end] = rng.choice(
                [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"]
            )
        elif kind == 5:
            b[at:at] = rng.choice(HOSTILE).encode()
        elif rng.random() < 0.3:
            del b[at:]
    return bytes(b)


def csv_case(folder: Path, rng: random.Random) -> Path:
    names = ["a", "b", "c", "label"]
    cells = ["1", "2.5", "", "x", '"q,r"', "NA", *HOSTILE]
    rows = [names, *([rng.choice(cells[:6]) for _ in names] for _ in range(rng.randrange(6)))]
    text = "\n".join(rng.choice(",,,;\t").join(row) for row in rows).encode()
    if rng.random() < 0.3:
        text = ",".join(names).encode() + b"\n" + b"\n".join(b"1,2.5,x,cat" for _ in range(5))
    path = folder / "t.csv"
    path.write_bytes(mutated(text, rng) or b" ")
    return path


def image_case(folder: Path, rng: random.Random) -> Path:
    kind = rng.choice(["PNG", "PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
    data = mutated(picture(kind, rng), rng)
    (folder / "cat").mkdir(exist_ok=True)
    (folder / "cat" / "0.png").write_bytes(
        with_checksums(data) if kind == "PNG" and rng.random() < 0.8 else data
    )
    return folder


def npz_case(folder: Path, rng: random.Random) -> Path:
    members = {}
    xs = [np.arange(12.0).reshape(4, 3), np.zeros((4, 5, 5), np.uint8), np.ones((4, 1, 2, 2), np.float16)]
    ys = [np.array(["a", "b", "a", "b"]), np.arange(4, dtype=">i2"), np.ones((4, 1), bool)]
    for name, arrays in (("x", xs), ("y", ys)):
        out = io.BytesIO()
        np.lib.format.write_array(out, rng.choice(arrays))
        members[f"{name}.npy"] = mutated(out.getvalue(), rng) if rng.random() < 0.4 else out.getvalue()
    if rng.random() < 0.2:
        members[rng.choice(HOSTILE[:4])] = b"outside"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as z:
        for name, data in members.items():
            z.writestr(name, data)
    path = folder / "t.npz"
    path.write_bytes(mutated(out.getvalue(), rng) if rng.random() < 0.5 else out.getvalue())
    return path


def safetensors_case(folder: Path, rng: random.Random) -> Path:
    data = save({"x": np.arange(12.0, dtype=np.float32).reshape(4, 3), "y": np.arange(4)})
    size = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    for _ in range(rng.randrange(3)):
        entry = header[rng.choice(["x", "y"])]
        values = [
            -1,
            0,
            2**31,
            2**63,
            1e30,
            None,
            "F8_E4M3",
            "BOOL",
            "BF16",
            [2**40, 2**40],
            [0, 0],
            [],
            *HOSTILE,
        ]
        entry[rng.choice(list(entry))] = rng.choice(values)
    if rng.random() < 0.2:
        header[rng.choice(HOSTILE)] = header["y"]
    text = json.dumps(header).encode()
    text = mutated(text, rng) if rng.random() < 0.4 else text
    size = rng.choice([0, 2**63, 10**8]) if rng.random() < 0.1 else len(text)
    path = folder / "t.safetensors"
    path.write_bytes(struct.pack("<Q", size) + text + body)
    return path


def parquet_case(folder: Path, rng: random.Random) -> Path:
    table = pa.table({"a": [1.0, 2.0, None] * 5, "b": ["x", "y", "z"] * 5, "label": [1, 2, 3] * 5})
    out = io.BytesIO()
    pq.write_table(table, out, compression=rng.choice(["snappy", "none", "gzip"]))
    path = folder / "t.parquet"
    path.write_bytes(mutated(out.getvalue(), rng))
    return path


def saved_case(folder: Path, rng: random.Random) -> Path:
    table = pa.table({"a": [1.0, 2.0, None] * 5, "b": ["x", "y", "z"] * 5, "label": [0, 1, 1] * 5})
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)
    value = {"_type": "Value"}
    features = {"a": value, "b": value, "label": {"_type": "ClassLabel", "names": ["p", "q"]}}
    parts = {
        "data.arrow": out.getvalue(),
        "state.json": json.dumps({"_data_files": [{"filename": "data.arrow"}]}).encode(),
        "dataset_info.json": json.dumps({"features": features}).encode(),
    }
    broken = rng.choice(list(parts))
    for name, data in parts.items():
        (folder / name).write_bytes(mutated(data, rng) if name == broken else data)
    return folder


CASE: dict[str, Callable[[Path, random.Random], Path]] = {
    "csv": csv_case,
    "images": image_case,
    "npz": npz_case,
    "safetensors": safetensors_case,
    "parquet": parquet_case,
    "hugging-face": saved_case,
}


def tried(source: Path) -> str:
    """Whether a file was refused, or read and prepared: then everything about it must be in order."""
    try:
        raw = read(source, labelled=None)
        x, notes = Preprocessing.fit(raw).apply(raw)
    except BadData as e:
        assert str(e).isprintable() and len(str(e)) < 3000, str(e)[:3000]
        return "refused"
    assert len(x) == len(raw) > 0 and all(isinstance(n, str) for n in notes)
    assert x.dtype == torch.uint8 or x.isfinite().all()
    assert raw.targets is None or len(raw.targets) == len(raw)
    return "read"


@pytest.mark.timeout(max(120, CASES))
@pytest.mark.parametrize("kind", list(CASE))
def test_whatever_is_done_to_a_file_it_is_read_or_refused(tmp_path: Path, kind: str) -> None:
    rng = random.Random(f"{kind} 1")
    tried(CASE[kind](tmp_path, rng))  # libraries load, before anything is watched
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for case in range(CASES // len(CASE) + 1):
        state = rng.getstate()
        source = CASE[kind](tmp_path, rng)
        began = time.monotonic()
        try:
            with watching(tmp_path) as seen:
                outcomes[tried(source)] += 1
        except BaseException as e:
            e.add_note(f"case {case} of {kind}, written to {source}; the generator began it at {hash(state)}")
            raise
        slowest = max(slowest, time.monotonic() - began)
        assert not seen, (case, seen)
        assert slowest < LONGEST, case
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"\n{kind}: {dict(outcomes)}, slowest {slowest:.3f} s, grown by {grown / 2**20:.0f} MiB")
    assert grown < MOST_MEMORY
    assert outcomes["refused"] > 0 and outcomes["read"] > 0  # the changes are neither harmless nor hopeless
    assert [p.name for p in tmp_path.parent.iterdir()].count("outside") == 0


def changed(d: Any, rng: random.Random) -> Any:
    """JSON with one value replaced somewhere in it, or a key taken away."""
    if isinstance(d, dict | list) and d and rng.random() < 0.8:
        d = d.copy()
        key: Any = rng.choice(list(d)) if isinstance(d, dict) else rng.randrange(len(d))
        if rng.random() < 0.15:
            del d[key]
        else:
            d[key] = changed(d[key], rng)
        return d
    odd: list[Any] = [
        None,
        True,
        0,
        -1,
        2**70,
        1.5,
        float("nan"),
        float("inf"),
        [],
        {},
        "",
        "table",
        [1],
        *HOSTILE,
    ]
    return rng.choice(odd)


def test_whatever_is_done_to_what_is_kept_it_is_the_same_or_damaged() -> None:
    rng = random.Random(2)
    table = Preprocessing.fit(read(([[1.0, 2.0], [3.0, 5.0]], ["a", "b"])))
    kept: list[tuple[Any, Any]] = [
        (Preprocessing, table.to_json()),
        (Preprocessing, Preprocessing("images", (3, 8, 8), 8).to_json()),
        (Labels, Labels(("1", "10", "-3"), True).to_json()),
    ]
    good = 0
    for _ in range(max(300, CASES)):
        kind, before = rng.choice(kept)
        d = changed(before, rng)
        try:
            back = kind.from_json(d)
        except Damaged as e:
            assert str(e).isprintable()
            continue
        good += 1
        assert kind.from_json(json.loads(json.dumps(back.to_json(), allow_nan=False))) == back
    assert good > 0
