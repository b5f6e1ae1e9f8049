"""The tour's files: the numbers in the text, the drawings and the CSV are those of the run; the notebook runs."""

from __future__ import annotations

import csv
import json
import math
import re
import runpy
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.lecture_examples import SMALL, lecture

from retain.lecture import Moment, Turned
from retain.tour import LANGUAGES, pictures, write_tour
from retain.tour.arrows import from_above, in_plane, in_space
from retain.tour.draw import heat
from retain.tour.page import render, worked
from retain.tour.words import WORDS, figure, percent, points

EXAMPLES = Path(__file__).parents[2] / "examples"
PICTURES = ["dreams", "gem-plane", "gem-space", "matrices", "orders", "parameters", "surface", "three"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("tour")
    assert write_tour(lecture(), out) == [out / "tour.en.html", out / "tour.zh.html"]
    return out


def facts(page: str) -> list[str]:
    """The sentences of numbers, without their markup."""
    found = re.findall(r'<p class="facts"[^>]*>(.*?)</p>', page, re.S)
    return [re.sub(r"<sub>.*?</sub>|<[^>]+>", "", f) for f in found]


def numbers(text: str) -> list[str]:
    return sorted(re.findall(r"[−+]?\d[\d.\u202f]*\d|\d", text))


def test_every_number_in_the_text_is_of_this_run_in_both_languages(folder: Path) -> None:
    pages = {lang: facts((folder / f"tour.{lang}.html").read_text(encoding="utf-8")) for lang in LANGUAGES}
    assert len(pages["en"]) == len(pages["zh"]) > 30
    for en, zh in zip(pages["en"], pages["zh"], strict=True):
        assert numbers(en) == numbers(zh), (en, zh)
    text, found = " ".join(pages["en"]), lecture()
    for r in (found.three.sgd, *found.three.l2.runs, *found.three.ewc.runs):
        assert f"{', '.join(map(percent, r.accuracy[-1]))} (" in text.replace("mean ", "")
        assert percent(r.acc) in text
    first = found.orders.noisy_first.accuracy
    assert (
        f"{percent(first[1][0])} of them were told right; after the clean ones, {percent(first[2][0])}"
        in text
    )
    for p in found.surface.paths[1:]:
        assert f"ends at {figure(p.losses[-1, 0])} and {figure(p.losses[-1, 1])}. " in text
        assert f"lies {figure(p.off[-1])} away" in text
    two = found.parameters
    assert f"derivatives are {figure(two.small.second)} and {figure(two.large.second)}" in text
    for m in (*found.gem.plane, *found.gem.space):
        assert all(f"{d:.1f}" in text for d in m.degrees)
    assert f"mean {percent(found.dreams.replay.acc)}" in text
    assert f"mean {percent(found.dreams.sgd.acc)}" in text


def test_a_measure_is_worked_out_from_its_cells() -> None:
    c = lecture().matrices["sgd"]
    R = np.array(c.accuracy) * 100
    acc, bwt, fwt = (worked(m, c) for m in c.measures)
    assert acc == f"({R[3, 0]:.1f} + {R[3, 1]:.1f} + {R[3, 2]:.1f}) / 3 = {percent(c.measures[0].value)}"
    assert bwt.startswith(f"({R[3, 0]:.1f} + {R[3, 1]:.1f} − {R[1, 0]:.1f} − {R[2, 1]:.1f}) / 2 = ")
    assert bwt.endswith(points(c.measures[1].value))
    assert fwt.startswith(f"({R[1, 1]:.1f} + {R[2, 2]:.1f} − {R[0, 1]:.1f} − {R[0, 2]:.1f}) / 2 = ")


def test_pages_are_whole_and_small(folder: Path) -> None:
    for lang in LANGUAGES:
        text = (folder / f"tour.{lang}.html").read_text(encoding="utf-8")
        assert len(text) < 1_000_000
        assert not re.findall(r'(?:src|href)="(?!#|data:|tour\.)', text)
        assert "{{" not in text and "{%" not in text


def test_each_picture_is_an_svg_file_that_stands_alone(folder: Path) -> None:
    files = sorted((folder / "pictures").iterdir())
    assert [f.stem for f in files] == PICTURES and {f.suffix for f in files} == {".svg"}
    for f in files:
        text = f.read_text(encoding="utf-8")
        assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(" not in text and "nan" not in text


def test_the_csv_files_hold_the_numbers(folder: Path) -> None:
    rows: dict[str, list[dict[str, str]]] = {}
    for f in (folder / "data").iterdir():
        with f.open(encoding="utf-8", newline="") as opened:
            rows[f.stem] = list(csv.DictReader(opened))
    assert sorted(rows) == sorted([*PICTURES, "surface-paths"])
    found = lecture()
    s = found.surface
    assert len(rows["surface"]) == s.losses.size
    for row in rows["surface"]:
        i, j = np.argmin(abs(s.b - float(row["b"]))), np.argmin(abs(s.a - float(row["a"])))
        assert float(row["loss"]) == s.losses[int(row["task"]) - 1, i, j]
    assert [float(r["off_plane"]) for r in rows["surface-paths"]] == [v for p in s.paths for v in p.off]
    large = [r for r in rows["parameters"] if r["which"] == "large"]
    assert [float(r["loss"]) for r in large] == found.parameters.large.loss.tolist()
    runs = {("sgd", "0.0"): found.three.sgd, ("l2", "0.1"): found.three.l2.at(0.1)}
    for (method, lam), r in runs.items():
        mine = [x for x in rows["three"] if (x["method"], x["lambda"]) == (method, lam)]
        assert [float(x["accuracy"]) for x in mine] == [v for values in r.curve.task for v in values]
    turned = [r for r in rows["gem-space"] if r["vector"] == "g'"]
    assert [float(r["axis_3"]) for r in turned] == [t.g[2] for m in found.gem.space for t in m.turned]
    assert all(r["axis_3"] == "" for r in rows["gem-plane"])
    assert {r["ACC"] for r in rows["matrices"]} == {str(c.measures[0].value) for c in found.matrices.values()}
    assert [float(r["accuracy"]) for r in rows["dreams"][:6]] == np.ravel(
        found.dreams.replay.accuracy
    ).tolist()


# ---- the arrows as they are drawn ----


def arrows(body: str) -> dict[str, list[np.ndarray]]:
    """The directions of the arrows of each colour, upwards positive: from tail to the tip of the head."""
    found: dict[str, list[np.ndarray]] = {}
    shaft = r'<polyline points="([\d.,\- ]+)" fill="none" stroke="var\(--(\w+)\)" stroke-width="2.5"[^>]*/>'
    for points_, colour, tip in re.findall(shaft + r'<polygon points="([\d.\-]+,[\d.\-]+)', body):
        tail, head = (np.array([float(v) for v in p.split(",")]) for p in (points_.split()[0], tip))
        found.setdefault(colour, []).append((head - tail) * [1, -1])
    return found


def angle(a: np.ndarray, b: np.ndarray) -> float:
    return math.degrees(math.acos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))


def made(past: Any, g: Any, turned: Any) -> tuple[Moment, Turned]:
    past, g, turned = (np.array(v, float) for v in (past, g, turned))
    t = Turned(0.0, np.ones(len(past)), turned, np.array([angle(turned, p) for p in past]), past @ turned)
    return Moment(2, 1, past, g, np.array([angle(g, p) for p in past]), (t,)), t


def test_drawn_vectors_have_the_real_angles() -> None:
    cases = [made([[2, 0]], [-1, 1.5], [0, 1.5])]
    cases += [(m, t) for m in lecture().gem.plane for t in m.turned]
    for m, t in cases:
        found = arrows(in_plane(m, t, WORDS["en"]).body)
        (past,), (g,), (new,) = found["blue"], found["orange"], found["green"]
        assert angle(g, past) == pytest.approx(m.degrees[0], abs=0.2)  # a tenth of a pixel
        assert angle(new, past) == pytest.approx(t.degrees[0], abs=0.2)
        ratio = np.linalg.norm(t.g) / np.linalg.norm(m.g)
        assert np.linalg.norm(new) / np.linalg.norm(g) == pytest.approx(ratio, abs=0.01)


def test_from_above_angles_in_the_plane_of_the_past_are_real() -> None:
    cases = [made([[2, 0, 0], [1, 1, 0]], [-1, 0.3, 2], [0, 0.5, 2])]
    cases += [(m, t) for m in lecture().gem.space for t in m.turned]
    for m, t in cases:
        body = from_above(m, t, WORDS["en"]).body
        found = arrows(body)
        one, two = found["blue"]
        assert angle(one, two) == pytest.approx(angle(*m.past), abs=0.3)
        g = found["orange"][0]
        if np.linalg.norm(g) > 20:
            assert angle(g, one) == pytest.approx(angle(m.g[:2], m.past[0][:2]), abs=0.5)
        assert len(arrows(in_space(m, t, WORDS["en"]).body)["blue"]) == 2


def test_the_unshaded_wedge_is_where_no_past_task_is_harmed() -> None:
    m, t = made([[2, 0, 0], [1, 1, 0]], [-1, 0.3, 2], [0, 0.5, 2])
    wedge = re.search(r'<polygon points="([^"]+)" fill="var\(--paper\)"', from_above(m, t, WORDS["en"]).body)
    assert wedge is not None
    corners = np.array([[float(v) for v in p.split(",")] for p in wedge[1].split()])
    edges = (corners[[1, 3]] - corners[0]) * [1, -1]
    for edge in edges:  # each edge is at a right angle to one past gradient, and does not harm the other
        dots = m.past[:, :2] @ edge / np.linalg.norm(edge)
        assert min(abs(dots)) == pytest.approx(0, abs=1e-3) and max(dots) > 0.1
    inside = (corners[2] - corners[0]) * [1, -1]
    assert (m.past[:, :2] @ inside > 0).all()


def test_the_map_is_the_right_way_up() -> None:
    import base64
    import io

    from PIL import Image

    losses = np.array([[1.0, 2.0], [4.0, 8.0]])  # the lowest row first: low losses below, high ones above
    image = Image.open(io.BytesIO(base64.b64decode(heat(losses, 1.0, 8.0).partition(",")[2]))).convert("RGBA")
    alpha = np.asarray(image)[:, :, 3]
    below, above = alpha[-1], alpha[0]
    assert below[0] < below[-1] < above[0] < above[-1]


def test_a_picture_has_a_drawing_for_every_position_of_its_controls() -> None:
    for lang in LANGUAGES:
        drawn = pictures(lecture(), lang)
        assert sorted(drawn) == PICTURES
        assert len(drawn["surface"].variants) == len(SMALL.lams)
        assert len(drawn["three"].variants) == len(SMALL.lams) * len(SMALL.l2_lams)
        assert len(drawn["gem-plane"].variants) == 6 * len(SMALL.margins)
        assert all(p.shown.panels and p._repr_svg_().startswith("<svg ") for p in drawn.values())
    assert WORDS["en"].keys() == WORDS["zh"].keys()


@pytest.mark.parametrize("languages", [(), ("en", "en"), ("fr",)])
def test_other_languages_are_refused_before_anything_is_written(tmp_path: Path, languages: tuple) -> None:
    with pytest.raises(ValueError, match="languages must be some of en, zh, each once"):
        write_tour(lecture(), tmp_path / "out", languages)
    assert not (tmp_path / "out").exists()


def test_a_page_alone_names_no_other() -> None:
    assert "hreflang" not in render(lecture(), "en")
    assert '<a href="tour.zh.html" hreflang="zh"' in render(lecture(), "en", ["zh"])


# ---- the notebook ----


def test_the_notebook_is_what_its_script_writes_and_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (EXAMPLES / "tour.ipynb").read_text(encoding="utf-8")
    assert text == runpy.run_path(str(EXAMPLES / "build_tour_notebook.py"))["notebook"]()
    cells = ["".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "code"]
    assert "setting = Setting()" in cells[0] and "compute(setting" in cells[0]
    namespace: dict[str, Any] = {}
    shown = []
    few = f"setting = Setting(**{vars(SMALL)!r})"
    for cell in cells:
        exec(compile(cell.replace("setting = Setting()", few), "tour.ipynb", "exec"), namespace)
        if re.fullmatch(r'drawn\["[\w-]+"\]', last := cell.splitlines()[-1]):
            shown.append(eval(last, namespace)._repr_svg_())
    assert len(shown) == len(PICTURES)
    assert f"ACC {lecture().dreams.replay.acc:.1%}" in capsys.readouterr().out
