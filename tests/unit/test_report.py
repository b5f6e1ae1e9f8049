from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.unit import report_examples as examples

from retain.report import (
    confusion,
    curves,
    find_results,
    html,
    inside,
    lines,
    summarise,
    write_pngs,
    write_report,
)
from retain.report.table import percent
from retain.result import Curve, Result

example = examples.example
HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<!-- {{ 7*7 }} --> &amp; '",
)


@pytest.fixture(scope="module")
def demo() -> list[Result]:
    results: list[Result] = examples.demo()
    assert len(results) == 18
    return results


@pytest.fixture(scope="module")
def page(demo: list[Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    write_report(demo, path)
    return path


class Page(HTMLParser):
    """Every element and attribute; the text of scripts; all other text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.words.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def specs(self) -> dict[str, Any]:
        kinds = [attrs for tag, attrs in self.tags if tag == "script"]
        pairs = zip(kinds, self.scripts, strict=True)
        return {str(k["id"]): json.loads(text) for k, text in pairs if k.get("type") == "application/json"}


# The page


def test_the_demo_fits_in_two_megabytes(page: Path) -> None:
    size = page.stat().st_size
    assert 900_000 < size <= 2_000_000, size


def test_nothing_is_loaded_from_anywhere(page: Path) -> None:
    parsed = Page(page.read_text(encoding="utf-8"))
    assert not parsed.of("link") and not parsed.of("iframe") and not parsed.of("base")
    for tag, attrs in parsed.tags:
        for name in ("src", "srcset", "href", "action", "data", "poster"):
            value = attrs.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), (tag, name, value)
        assert not any(a.startswith("on") for a in attrs), (tag, attrs)
    style = page.read_text(encoding="utf-8").split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style
    assert '"url"' not in json.dumps(
        [{k: v for k, v in s.items() if k != "$schema"} for s in parsed.specs.values()]
    )
    (policy,) = [m["content"] for m in parsed.of("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;")


def test_the_page_says_all_its_parts(page: Path, demo: list[Result]) -> None:
    text = page.read_text(encoding="utf-8")
    parsed = Page(text)
    words = " ".join(" ".join(parsed.words).split())
    assert parsed.of("html") == [{"lang": "en"}]
    for heading in (
        "Accuracy on each task",
        "Accuracy matrices",
        "The numbers",
        "What can be told apart",
        "Stability and plasticity",
        "What it costs",
        "What the generator remembers",
        "Where the gradients point",
        "What holds each layer",
    ):
        assert heading in words
    for part in (
        "forgetting",
        "ACC, average accuracy",
        "BWT, backward transfer",
        "FWT, forward transfer",
        "torch 2.13.0",
    ):
        assert part in words
    for row in summarise(demo):
        assert percent(row.acc, interval=True) in words
        assert percent(row.intransigence, signed=True, interval=True) in words
    assert (
        len(parsed.specs) == 2 * 2 + 7 + 4 + 2 * 2 + 2 + 2 * 3 + 2
    )  # curves, values, matrices, cosines and multipliers, planes, costs, layers
    assert len(parsed.of("figure")) == len(re.findall("</figure>", text)) == 13
    images = parsed.of("img")
    assert len(images) == 3 and all("drawn from the generator" in (i["alt"] or "") for i in images)
    assert all(d.get("aria-label") for d in parsed.of("div") if "data-figure" in d)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(name: str, tmp_path: Path) -> None:
    stream = {"name": name, name: name}
    base = example("gem", names=(name, "B" + name), stream=stream)
    evil = replace(base, method={"name": name, name: name}, config={name: [name]}, versions={name: name})
    tame = replace(
        example("gem", names=("x", "y"), stream={"name": "x", "z": "y"}), method={"name": "gem", "a": 1}
    )
    write_report([evil], tmp_path / "evil.html")
    write_report([tame], tmp_path / "tame.html")
    text = (tmp_path / "evil.html").read_text(encoding="utf-8")
    found, expected = Page(text), Page((tmp_path / "tame.html").read_text(encoding="utf-8"))
    assert [t for t, _ in found.tags] == [t for t, _ in expected.tags]
    assert not any(a.startswith("on") for _, attrs in found.tags for a in attrs)
    assert found.scripts[-3:] == expected.scripts[-3:]  # ours, unchanged
    assert name in " ".join(found.words)
    assert any(name in json.dumps(s, ensure_ascii=False).replace('\\"', '"') for s in found.specs.values())
    assert name not in text  # never as it is


def test_an_existing_report_is_replaced_whole_and_errors_leave_it(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    path.write_text("old")
    with pytest.raises(ValueError, match="no results"):
        write_report([], path)
    assert path.read_text() == "old"
    write_report([example()], path)
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_the_curves_are_means_over_seeds_with_their_range(demo: list[Result]) -> None:
    g = lines.group(demo)[0]
    points = curves.curve_points(g)
    assert {p["panel"] for p in points} == {"A", "B", "C"}
    runs = [r for r in demo if r.method["name"] == "ewc" and len(r.tasks) == 3]
    mine = [p for p in points if p["method"] == "ewc" and p["panel"] == "B"]
    assert len(mine) >= 100
    for p in mine:
        values = [r.curve.task[1][r.curve.step.index(p["x"])] for r in runs]
        assert p["y"] == pytest.approx(mean(values), abs=1e-4)
        assert (p["low"], p["high"]) == pytest.approx((min(values), max(values)), abs=1e-4)
    # joint trains three times as long: its levels lie on the others' steps
    joint = [p for p in points if p["method"] == "joint" and p["panel"] == "A"]
    assert [p["x"] for p in joint] == [0, 600, 600, 1200, 1200, 1800]
    level = mean(r.accuracy[3][0] for r in demo if r.method["name"] == "joint" and len(r.tasks) == 3)
    assert joint[-1]["y"] == pytest.approx(level, abs=1e-4)


@pytest.mark.parametrize("series", [inside.COSINES, inside.MULTIPLIERS], ids=["cosines", "multipliers"])
def test_series_are_those_recorded_and_their_means_run(demo: list[Result], series: inside.Series) -> None:
    g = lines.group(demo)[0]
    run = next(r for r in demo if r.method["name"] == "gem")
    assert [r.method["name"] for _, r in inside.with_series(g, series)] == ["gem"]
    points = inside.series_points(g, run, series)
    records = [(r["step"], v) for r in run.diagnostics["records"] for v in r[series.key]]
    assert sorted((p["x"], p["y"]) for p in points) == sorted((s, float(f"{v:.4g}")) for s, v in records)
    of_b = [p for p in points if p["past"] == "B"]
    ys = [r[series.key][1] for r in run.diagnostics["records"] if len(r[series.key]) == 2]
    slow = [mean(ys[max(i - 4, 0) : i + 5]) for i in range(len(ys))]
    assert [p["smooth"] for p in of_b] == pytest.approx(slow, abs=1e-3)


@pytest.mark.parametrize(
    "own",
    [
        {"importance": 0.3}, {"importance": {"a": -1}}, {"importance": [1]}, {"used": {"a": 1.5}},
        {"free": {"a": "x"}}, {"kept": {"a": [3, 2]}}, {"kept": {"a": 1}}, {"importance": {}},
        {"importance": {"a": 10**400}}, {"importance": {"a": True}},
    ],
)  # fmt: skip
def test_entries_of_a_users_method_that_have_another_form_are_left_alone(own: Any, tmp_path: Path) -> None:
    records = [{"step": 600 * (t + 1), "task": t, **own} for t in range(3)]
    r = replace(example(), diagnostics={"records": records})
    assert inside.with_layers(lines.group([r])[0]) == []
    write_report([r], tmp_path / "r.html")


def test_small_multipliers_stay_above_zero_and_steps_without_boundaries_within_the_figure() -> None:
    records = [{"step": s, "task": 1, "cosine": [-0.1], "multipliers": [2e-4]} for s in (700, 900)]
    r = replace(example(points=0), boundaries=[], diagnostics={"records": records})
    (g,) = lines.group([r])
    assert [p["y"] for p in inside.series_points(g, r, inside.MULTIPLIERS)] == [2e-4, 2e-4]
    figure = inside.over_time(g, r, inside.MULTIPLIERS)
    assert any(
        layer.get("encoding", {}).get("x", {}).get("scale", {}).get("domain") == [0, 900]
        for layer in figure["layer"]
    )


def test_one_layer_that_is_the_whole_model_has_a_name() -> None:
    told = [{"step": 600 * (t + 1), "task": t, "importance": {"": 0.5}} for t in range(3)]
    (g,) = lines.group([replace(example(), diagnostics={"records": told})])
    ((line, held),) = inside.with_layers(g)
    assert {p["layer"] for p in inside.layer_points(g, line, held)} == {"network"}


def test_multipliers_are_shown_where_an_older_seed_has_none() -> None:
    old, new = example("gem", 0), example("gem", 1)
    older = [{k: v for k, v in x.items() if k != "multipliers"} for x in old.diagnostics["records"]]
    (g,) = lines.group([replace(old, diagnostics={"records": older}), new])
    (shown,) = html._gradients(g)
    assert shown["seed"] == 1 and shown["multipliers"] is not None


def test_of_many_past_tasks_the_mean_and_the_furthest_are_shown() -> None:
    r = example("gem", names=tuple(f"t{j}" for j in range(9)), points=5)
    (g,) = lines.group([r])
    last = r.diagnostics["records"][-1]
    for series, furthest in ((inside.COSINES, min), (inside.MULTIPLIERS, max)):
        shown = {p["past"]: p["y"] for p in inside.series_points(g, r, series) if p["x"] == last["step"]}
        values = last[series.key]
        assert shown == {
            "mean of the past tasks": pytest.approx(mean(values), abs=1e-3),
            f"{series.furthest} of the past tasks": pytest.approx(furthest(values), abs=1e-3),
        }


def test_the_share_of_turned_steps_is_each_tasks_last(demo: list[Result]) -> None:
    g = lines.group(demo)[0]
    (gem,) = [line for line in g.lines if line.name == "gem"]
    for t in (1, 2):
        share = mean(
            [x for x in r.diagnostics["records"] if x["task"] == t][-1]["violations"] for r in gem.runs
        )
        assert f"{100 * share:.0f} % of the steps while learning {'ABC'[t]}" in inside.turned(g, gem)


def test_importance_is_shown_layer_by_layer_the_mean_over_seeds(demo: list[Result]) -> None:
    g = lines.group(demo)[0]
    ((line, held),) = inside.with_layers(g)
    assert (line.name, held.key) == ("ewc", "importance")
    points = inside.layer_points(g, line, held)
    assert [(p["after"], p["layer"]) for p in points] == [(t, k) for t in "ABC" for k in examples.LAYERS]
    for p in points:
        task = "ABC".index(p["after"])
        seeds = [r.diagnostics["records"][task]["importance"][p["layer"]] for r in line.runs]
        assert p["value"] == pytest.approx(mean(seeds), rel=1e-3)


@pytest.mark.parametrize(
    ("key", "recorded", "shown"), [("kept", [30, 40], 0.75), ("used", 0.2, 0.2), ("free", 0.25, 0.75)]
)
def test_shares_of_a_layer_say_what_is_taken(key: str, recorded: Any, shown: float) -> None:
    told = [{"step": 600 * (t + 1), "task": t, key: {"net.0": recorded}} for t in range(3)]
    (g,) = lines.group([replace(example(), diagnostics={"records": told})])
    ((line, held),) = inside.with_layers(g)
    assert [p["value"] for p in inside.layer_points(g, line, held)] == [shown] * 3
    assert held.share and inside.layers(g, line, held)["layer"]


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_samples_are_shown_pixel_by_pixel(channels: int) -> None:
    x = np.random.default_rng(0).integers(0, 256, (11, channels, 5, 4), dtype=np.uint8)
    samples = {"shape": list(x.shape), "uint8": base64.b64encode(x.tobytes()).decode()}
    sheet = html._sheet(samples, 10)
    assert sheet["n"] == 10
    seen = np.array(Image.open(io.BytesIO(base64.b64decode(sheet["uri"].partition(",")[2]))))
    wide = 4 * channels if channels == 2 else 4
    assert seen.shape[:2] == (2 * 6, 8 * (wide + 1))
    ninth = seen[6:11, 0:wide]
    want = x[8].transpose(1, 2, 0) if channels == 3 else np.concatenate(list(x[8]), 1)
    assert (ninth == want).all()


@pytest.mark.parametrize(
    "results",
    [
        [example("naive", names=("A",))],
        [example("joint", names=("A",))],
        [example("gem", points=0), example("joint", points=0)],
        [replace(example("naive", points=0), boundaries=[])],
        [example("gem", names=tuple(f"permutation {j}" for j in range(20)), points=20)],
        [replace(example(), curve=Curve([1800], [[0.5], [0.5], [0.5]]))],
        [example("naive", points=10), example("naive", 1, points=7)],  # seeds on different grids
    ],
    ids=["one task", "one task, joint", "no curve", "no boundaries", "20 tasks", "one point", "grids"],
)
def test_degenerate_results_make_a_report_and_pngs(results: list[Result], tmp_path: Path) -> None:
    write_report(results, tmp_path / "r.html")
    specs = Page((tmp_path / "r.html").read_text(encoding="utf-8")).specs
    assert specs["values-1"]["traces"]
    paths = write_pngs(results, tmp_path / "png")
    assert [p.suffix for p in paths] == [".png"] * 2
    for path in paths:
        with Image.open(path) as image:
            assert image.width > 100 and len(image.convert("RGB").getcolors(1 << 24) or []) > 5


def test_twenty_tasks_show_three_of_them_and_the_mean() -> None:
    (g,) = lines.group([example("naive", names=tuple(f"t{j}" for j in range(20)), points=5)])
    assert curves.panels(g) == {"t0": [0], "t9": [9], "t19": [19], curves.MEAN: list(range(20))}


def test_pngs_have_safe_names_of_their_own(tmp_path: Path) -> None:
    streams = [{"name": "../../etc/passwd"}, {"name": "../../ETC/passwd"}]
    paths = write_pngs([example(stream=s) for s in streams], tmp_path)
    assert [p.name for p in paths] == [
        "curves-etc-passwd.png",
        "matrices-etc-passwd.png",
        "curves-etc-passwd-2.png",
        "matrices-etc-passwd-2.png",
    ]
    assert all(p.parent == tmp_path and p.is_file() for p in paths)


def test_confusions_are_shares_of_each_class_over_all_seeds() -> None:
    results = [examples.confused(example("ewc", s)) for s in (0, 1)] + [example("naive", 0)]
    (g,) = lines.group(results)
    (line,) = confusion.lines(g)  # of naive none were recorded
    assert confusion.moments(g) == ["untrained", "after A", "after B", "after C"]
    sums = np.sum([r.extras["confusions"] for r in line.runs], axis=0)
    assert confusion.plain(g, line)["shares"] == (100 * sums / sums.sum(2, keepdims=True)).round(1).tolist()
    counted = confusion.counts(g)
    assert sum(row["examples"] for row in counted) == sums.sum()
    tables = [np.ones((100, 100), int).tolist()] * 4
    (many,) = lines.group([replace(example("ewc"), extras={"confusions": tables})])
    assert confusion.lines(many) == [] and len(confusion.counts(many)) == 4 * 100 * 100


# Finding and refusing


def test_results_are_found_at_any_depth_in_order(tmp_path: Path) -> None:
    for where, seed in (("b/x", 1), ("a", 0)):
        example("gem", seed).save(tmp_path / where / "result.json")
    assert [r.seed for r in find_results(tmp_path)] == [0, 1]
    assert summarise(find_results(tmp_path)) == summarise([example("gem", 0), example("gem", 1)])


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"no result.json below {re.escape(str(tmp_path))}.*retain run"):
        find_results(tmp_path)
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        find_results(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', "\x00", '{"schema": 2}', "[" * 100_000])
def test_a_file_that_is_no_result_is_named(tmp_path: Path, text: str) -> None:
    example().save(tmp_path / "a" / "result.json")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "result.json").write_text(text)
    with pytest.raises(ValueError, match=r"b/result\.json: .*run it again"):
        find_results(tmp_path)


def record(**fields: Any) -> dict[str, Any]:
    return {"diagnostics": {"records": [{"step": 5, "task": 1, **fields}]}}


PIXEL = {"shape": [1, 1, 1, 2], "uint8": "AAA="}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (record(cosine=[1.5]), "cosine must be at most 1 numbers"),
        (record(cosine=["x"]), "cosine must be"),
        (record(cosine=[0.1, 0.2]), "cosine must be at most 1"),
        (record(cosine=0.5), "cosine must be"),
        (record(multipliers=[-1.0]), "multipliers must be"),
        (record(multipliers=[0.1, 0.2]), "multipliers must be at most 1"),
        (record(multipliers=[10**400]), "multipliers must be"),
        (record(multipliers=[True]), "multipliers must be"),
        (record(violations=2), "violations must be in"),
        (record(task=3), r"task must be in 0\.\.2"),
        (record(step=-1), "step must be a whole number"),
        (record(step=1.5), "step must be a whole number"),
        (record(samples=None), "samples must be an object"),
        (record(samples={**PIXEL, "shape": [1, 1, 1, 3]}), "needs 3 bytes, got 2"),
        (record(samples={**PIXEL, "shape": [1, 1, 2]}), "shape must be"),
        (record(samples={**PIXEL, "shape": [1, 1, 0, 2]}), "shape must be"),
        (record(samples={**PIXEL, "shape": [4096] * 4}), "bytes of images, at most"),
        (record(samples={**PIXEL, "uint8": "A A="}), "not base64"),
        (record(samples={**PIXEL, "uint8": 5}), "must be base64 text"),
        (record(samples={**PIXEL, "uint8": "é"}), "not base64"),
        ({"diagnostics": {"records": {}}}, "records must be a list"),
        ({"diagnostics": {"records": [1]}}, r"records\[0\] must be an object"),
        ({"boundaries": [600, 600, 1800]}, "boundaries must be 3 ascending steps"),
        ({"boundaries": [1, 2]}, "boundaries"),
        ({"boundaries": []}, "a curve cannot be drawn without boundaries"),
        ({"state_bytes": -1}, "state_bytes"),
        ({"seed": "0"}, "seed"),
        ({"curve": Curve([2, 1], [[0.5, 0.5]] * 3)}, "curve"),
        ({"curve": Curve([1, 2], [[0.5, 1.5]] * 3)}, "curve"),
        ({"versions": {"torch": 2}}, "versions"),
        ({"extras": {"confusions": [[[1]]] * 3}}, "confusions must be 4 tables"),
        ({"extras": {"confusions": [[[1]], [[1]], [[1]], [[1, 2]]]}}, "each table must be 1 x 1"),
        ({"extras": {"confusions": [[[-1]]] * 4}}, "must be counts"),
        ({"extras": {"confusions": [[]] * 4}}, "each a list of rows"),
    ],
)
def test_a_broken_result_is_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    broken = replace(example(), **change)
    with pytest.raises(ValueError, match=message):
        write_report([broken], tmp_path / "r.html")
    with pytest.raises(ValueError, match=message):
        write_pngs([broken], tmp_path / "png")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "result.json").write_text(json.dumps(broken.to_json()))
    with pytest.raises(ValueError, match=r"in/result\.json: .*"):
        find_results(tmp_path)
