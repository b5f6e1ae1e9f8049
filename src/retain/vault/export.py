"""A version as a file that serves without this package: ONNX, or a program of torch.export.

The graph begins with what the vault's preprocessing gives: images uint8 [N, C, H, W], or float32 [N, ...].
All that comes after is in it: the division by 255, the network, which classes are known, the temperature
and the soft-max. What comes before is not: files are read, images resized and a table's columns turned into
numbers (standardised, one-hot) by `Preprocessing`, whose JSON goes with the file.

Nothing is written that has not been run, and seen to say what the vault says.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from retain.files import write_atomically
from retain.sitting import versions
from retain.vault.errors import VaultError
from retain.vault.serving import Predicting, Serving

TOLERANCE = 1e-5  # between the file's numbers and the vault's
FEWEST = 1000  # examples on which they are compared
LARGEST = 2**31 - 1  # bytes of an ONNX file, which is one message of protobuf
NEEDS = ("onnx", "onnxruntime", "onnxscript")
Run = Callable[[Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True)
class About:
    """What goes with the graph, for whoever serves it."""

    labels: tuple[str | int, ...]  # the K classes, or columns, in the order of the outputs
    preprocessing: Mapping[str, Any]  # of the vault, as JSON; its `kind` and `shape` are those of the input
    version: int | None = None  # of the vault

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example, as the graph takes it."""
        return tuple(self.preprocessing["shape"])

    @property
    def dtype(self) -> torch.dtype:
        """The same."""
        return torch.uint8 if self.preprocessing["kind"] == "images" else torch.float32

    def properties(self) -> dict[str, str]:
        """As the file itself says it."""
        return {
            "retain.labels": json.dumps(self.labels, ensure_ascii=False),
            "retain.preprocessing": json.dumps(self.preprocessing, ensure_ascii=False, allow_nan=False),
            "retain.version": json.dumps(self.version),
        }


@dataclass(frozen=True)
class Exported:
    """A file that was written, and how it compared."""

    path: Path
    card: Path  # JSON beside it: labels, preprocessing, inputs and outputs, checksum
    examples: int  # on which both were run
    difference: float  # the largest between their numbers; <= TOLERANCE
    ties: int  # examples whose label differs, the two best being that close


def to_onnx(
    serving: Serving, about: About, reference: Callable[[Tensor], Tensor], path: Path,
    examples: Tensor | None = None,
) -> Exported:  # fmt: skip
    """Write an ONNX file, and a JSON beside it, once onnxruntime has said what the vault says.

    The label map, the preprocessing and the version also lie in the file, as its metadata.

    Args:
        serving: what is written.
        about: what goes with it.
        reference: the vault's own predictions: stored examples [N, ...] -> probabilities (regression: values)
            [N, K].
        path: the file.
        examples: stored ones to compare on; random ones make them up to 1,000.

    Raises:
        VaultError: ONNX is not installed; the method's predict is no graph; or the file's numbers
            differ from the vault's by more than 1e-5 (of values over 1, 1e-5 of them). Nothing is written.
    """
    _require_extra()
    inputs = _inputs(about, examples)
    data = _onnx(_program(serving, about), serving, about)
    return _publish(data, _onnxruntime(data), "onnx", serving, about, reference, path, inputs)


def to_torch(
    serving: Serving, about: About, reference: Callable[[Tensor], Tensor], path: Path,
    examples: Tensor | None = None,
) -> Exported:  # fmt: skip
    """Write a program that `torch.export.load` reads, otherwise as `to_onnx` does; needs no extra.

    Label map, preprocessing and version are its extra file `retain.json`.
    """
    inputs = _inputs(about, examples)
    out = io.BytesIO()
    with _quiet():
        extra = {"retain.json": json.dumps(about.properties(), ensure_ascii=False)}
        torch.export.save(_program(serving, about), out, extra_files=extra)
        loaded = torch.export.load(io.BytesIO(out.getvalue())).module()
    return _publish(out.getvalue(), loaded, "torch", serving, about, reference, path, inputs)


# ---- the graph ----


def _program(serving: Serving, about: About) -> ExportedProgram:
    """The graph, for any number of examples."""
    if len(about.labels) != len(serving.known):
        raise VaultError(f"{len(about.labels)} labels do not name the {len(serving.known)} known outputs")
    two = torch.zeros(2, *about.shape, dtype=about.dtype)
    try:
        with _quiet(), torch.no_grad():
            serving(two)  # what a method computes once and keeps is then no part of the graph
            dims = ({0: torch.export.Dim("N")},)
            program = torch.export.export(serving, (two,), dynamic_shapes=dims)
    except Exception as e:  # whatever the tracer finds it cannot follow, each with an error of its own
        net = serving.network
        what = type(net.learner.method).__name__ if isinstance(net, Predicting) else type(net).__name__
        raise VaultError(
            f"{what} does not predict by a graph that can be exported; serve it from the vault, by predict "
            f"({' '.join(f'{type(e).__name__}: {e}'.split())[:160]})"
        ) from e
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)  # paths on this machine are nobody's business
    for name, constant in program.constants.items():
        if isinstance(constant, Tensor):  # a transposed one is saved as part of a whole that is not there
            program.constants[name] = constant.clone(memory_format=torch.contiguous_format)
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Without two notes of torch's own about itself, which say nothing of the model."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
        log.addFilter(_of_torchvision)
        try:
            yield
        finally:
            log.removeFilter(_of_torchvision)


def _of_torchvision(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("torchvision is not installed")


# ---- ONNX ----


def _require_extra() -> None:
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise VaultError(f"ONNX needs {', '.join(missing)}: pip install onnx onnxruntime onnxscript")


def _onnx(program: ExportedProgram, serving: Serving, about: About) -> bytes:
    with _quiet():
        made = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=["x"], output_names=list(serving.outputs),
            dynamic_shapes=({0: "N"},),
        )  # fmt: skip
    assert made is not None
    proto = made.model_proto
    proto.producer_name, proto.producer_version = "retain", versions()["retain"]
    for key, value in about.properties().items():
        proto.metadata_props.add(key=key, value=value)
    size = proto.ByteSize()
    if size > LARGEST:
        raise VaultError(f"{size} bytes are more than an ONNX file holds, {LARGEST}: export it as .pt2")
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _onnxruntime(data: bytes) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda x: tuple(torch.from_numpy(out) for out in session.run(None, {"x": x.numpy()}))


# ---- the comparison ----


def _inputs(about: About, examples: Tensor | None) -> Tensor:
    """Stored examples [N >= FEWEST, ...] to compare on: those given, and random ones."""
    given = torch.empty(0, *about.shape, dtype=about.dtype) if examples is None else examples
    if given.shape[1:] != about.shape or given.dtype != about.dtype:
        raise VaultError(
            f"the model takes {about.dtype} {list(about.shape)}, the examples to compare on are {given.dtype} "
            f"{list(given.shape[1:])}"
        )
    rng = torch.Generator().manual_seed(0)
    n = max(0, FEWEST - len(given))
    more = torch.randn(n, *about.shape, generator=rng)
    more *= 3 * torch.rand(n, *[1] * len(about.shape), generator=rng)  # near the middle and far from it
    if about.dtype == torch.uint8:
        level = torch.rand(n, *[1] * len(about.shape), generator=rng)  # dark ones and light ones
        more = (255 * level + 40 * more).clamp(0, 255).to(torch.uint8)
    return torch.cat([given, more])


def _compare(
    run: Run, serving: Serving, reference: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[float, int]:
    """The largest difference, and how many labels differ by a tie; a batch of one, some, then many.

    Raises:
        VaultError: the numbers differ by more than TOLERANCE, or a label beyond a tie.
    """
    with torch.no_grad():
        parts = [run(part) for part in (x[:1], x[1:8], *x[8:].split(256)) if len(part)]
        expected = reference(x)
    found = torch.cat([part[0] for part in parts])
    if found.shape != expected.shape:
        raise VaultError(f"the file gives {list(found.shape)} numbers, the vault {list(expected.shape)}")
    difference = float(((found - expected).abs() / expected.abs().clamp_min(1)).max())
    if not difference <= TOLERANCE:  # NaN is no agreement
        raise VaultError(
            f"the exported model differs from the vault by {difference:.2g}, more than {TOLERANCE}: nothing is "
            "written; serve it from the vault, by predict"
        )
    if serving.target == "regression":
        return difference, 0
    label = torch.cat([part[1] for part in parts])
    differ, margin = _labels_differ(label, expected, serving)
    if bool((differ & (margin > 2 * TOLERANCE)).any()):
        raise VaultError("the exported model's labels are not those of its probabilities: nothing is written")
    return difference, int(differ.sum())


def _labels_differ(label: Tensor, expected: Tensor, serving: Serving) -> tuple[Tensor, Tensor]:
    """Where the labels are not the vault's, and by how much the vault's choice was the better one."""
    if serving.target == "multilabel":
        return label != (expected > 0.5), 2 * (expected - 0.5).abs()
    best = expected.topk(min(2, expected.shape[1]), 1).values
    return label != expected.argmax(1), best[:, 0] - (best[:, 1] if best.shape[1] > 1 else -math.inf)


# ---- files ----


def _publish(
    data: bytes, run: Run, kind: str, serving: Serving, about: About,
    reference: Callable[[Tensor], Tensor], path: Path, inputs: Tensor,
) -> Exported:  # fmt: skip
    """Compare, then write: first the JSON, so that whoever sees the model sees what goes with it."""
    difference, ties = _compare(run, serving, reference, inputs)
    path = Path(path)
    card = path.with_name(path.name + ".json")
    text = json.dumps(
        {
            "schema": 1,
            "format": kind,
            "retain": versions()["retain"],
            "sha256": hashlib.sha256(data).hexdigest(),
            "version": about.version,
            "target": serving.target,
            "temperature": serving.temperature,
            "input": {"name": "x", "dtype": str(about.dtype).removeprefix("torch."), "shape": about.shape},
            "outputs": serving.outputs,
            "labels": about.labels,
            "preprocessing": about.preprocessing,
            "compared": {"examples": len(inputs), "difference": difference, "ties": ties},
        },
        indent=1,
        ensure_ascii=False,
        allow_nan=False,
    )
    write_atomically(card, text.encode())
    write_atomically(path, data)
    return Exported(path, card, len(inputs), difference, ties)
