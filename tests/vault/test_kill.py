"""kill -9 at random moments of `learn`: what is served is the old or the new version, whole, and the rerun ends in
the same bits. RETAIN_KILLS says how often (10; 200 takes some minutes)."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import torch

from retain.streams.sources import load
from retain.vault import Vault, contents, init, open_vault, update

KILLS = int(os.environ.get("RETAIN_KILLS", "10"))


def digits(*classes: int) -> tuple[torch.Tensor, list[int]]:
    x, y = load("mnist", "train")
    rows = torch.cat([(y == c).nonzero()[:400, 0] for c in classes]).sort().values
    return x[rows], y[rows].tolist()


def learn(vault: Vault) -> None:
    """The second update; its training is saved every hundredth of a second."""
    ask = update.Ask(vault.read(digits(2, 3)), "second", force=True, seconds=0.01)
    update.learn(vault.store, vault._maker(), ask, lambda *_: None, lambda: False)


def child_that_learns(path: Path) -> int:
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            learn(open_vault(path))
            os._exit(0)
        os._exit(1)
    return child


def bits(vault: Vault, version: int) -> tuple[bytes, bytes, list[str]]:
    s = vault.store
    return s.file(version, contents.STATE), s.file(version, contents.CONTENTS), s.manifest(version)["blobs"]


def test_kill_9_at_random_moments_of_learn(tmp_path: Path) -> None:
    first = init(tmp_path / "first", "mlp:64", epochs=3, batch_size=32, memory_bytes="80KB")
    assert first.learn(digits(0, 1), "first").promoted
    x = digits(0, 1, 2, 3)[0]
    shutil.copytree(first.path, tmp_path / "whole")
    began = time.perf_counter()
    learn(open_vault(tmp_path / "whole"))
    seconds = time.perf_counter() - began
    said = {v: open_vault(tmp_path / "whole").predict((x, None), v).probabilities for v in (1, 2)}
    expected = bits(open_vault(tmp_path / "whole"), 2)
    rng, resumed, late = random.Random(0), 0, 0
    for k in range(KILLS):
        path = tmp_path / f"killed-{k}"
        shutil.copytree(first.path, path)
        child = child_that_learns(path)
        time.sleep(rng.uniform(0, 1.2 * seconds))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        vault = open_vault(path)
        served = vault.served or 0
        assert torch.equal(vault.predict((x, None)).probabilities, said[served])
        resumed += (path / "work" / "training.safetensors").exists() and served == 1
        late += served == 2
        if served == 1:
            learn(vault)
        assert bits(open_vault(path), 2) == expected
        assert open_vault(path).verify() == []
        shutil.rmtree(path)
    assert resumed + late > 0  # some came amid the training, or after it
