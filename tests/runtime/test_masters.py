import gc
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tadp.kernels import BitPlaneWeight
from tadp.runtime.checkpoint import CheckpointMasters
from tadp.runtime.masters import SpillWriter, WrittenMasters, remove_abandoned
from tadp.runtime.pool import WeightPool

WEIGHTS = {"a": torch.randn(3, 5), "b": torch.randn(4, 2).bfloat16(), "c": torch.randn(1, 1).half()}


def _spill(directory: Path) -> WrittenMasters:
    writer = SpillWriter(directory, WEIGHTS)
    for key, tensor in WEIGHTS.items():
        writer.write(key, tensor)
    return writer.finish()


def test_masters_come_back_bit_for_bit(tmp_path: Path) -> None:
    masters = _spill(tmp_path)
    for key, tensor in WEIGHTS.items():
        assert torch.equal(masters.get(key, torch.device("cpu")), tensor)


def test_the_file_goes_with_its_owner(tmp_path: Path) -> None:
    masters = _spill(tmp_path)
    assert masters.path.exists()
    del masters
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_tensors_outlive_the_file(tmp_path: Path) -> None:
    masters = _spill(tmp_path)
    tensor = masters.get("a", torch.device("cpu"))
    masters.close()
    assert torch.equal(tensor, WEIGHTS["a"])


@pytest.mark.parametrize("damage", ["removed", "cut off"])
def test_a_lost_file_is_reported_with_the_layer_and_a_way_out(tmp_path: Path, damage: str) -> None:
    masters = _spill(tmp_path)
    if damage == "removed":
        masters.path.unlink()
    else:
        masters.path.write_bytes(masters.path.read_bytes()[:-20])
    with pytest.raises(RuntimeError, match=r"master of a cannot be read .* compile it again"):
        masters.get("a", torch.device("cpu"))


def test_a_file_in_use_is_not_abandoned(tmp_path: Path) -> None:
    masters = _spill(tmp_path)
    assert remove_abandoned(tmp_path) == []
    assert masters.path.exists()


@pytest.mark.spawns
def test_a_crash_leaves_a_file_that_the_next_start_removes(tmp_path: Path) -> None:
    code = (
        "import os, torch; from pathlib import Path; from tadp.runtime.masters import SpillWriter\n"
        f"writer = SpillWriter(Path({str(tmp_path)!r}), {{'a': torch.ones(2, 2)}})\n"
        "writer.write('a', torch.ones(2, 2)); masters = writer.finish(); os.kill(os.getpid(), 9)"
    )
    crashed = subprocess.run([sys.executable, "-c", code], check=False)
    assert crashed.returncode == -9
    assert len(list(tmp_path.iterdir())) == 1
    masters = _spill(tmp_path)
    assert list(tmp_path.iterdir()) == [masters.path]


def test_tensors_out_of_order_are_refused(tmp_path: Path) -> None:
    writer = SpillWriter(tmp_path, WEIGHTS)
    with pytest.raises(ValueError, match="out of order"):
        writer.write("b", WEIGHTS["b"])


def test_masters_fit_where_a_fifth_of_the_memory_stays_free(tmp_path: Path) -> None:
    pool, masters = WeightPool(lambda weight: pytest.fail("nothing is packed here")), _spill(tmp_path)
    assert pool.masters_fit(0)  # there are none
    weight = BitPlaneWeight.from_hp(torch.randn(3, 5))
    pool.adopt([("block", "a", weight)], CheckpointMasters(written=masters))
    nbytes = 3 * 5 * 4
    assert pool.masters_fit(None)
    assert not pool.masters_fit(nbytes)
    assert pool.masters_fit(nbytes * 5 // 4 + 1)
