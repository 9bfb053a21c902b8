"""`tadp doctor`: what it says of a machine, and that it finds kernels that are wrong."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tadp.cli import main
from tadp.commands import doctor
from tadp.doctor import machine
from tadp.doctor.findings import Check, Finding, Verdict


def one_check(verdict: Verdict) -> Any:
    """What stands in the place of all checks of numerics."""
    return lambda device: [Check("it", lambda: Finding(verdict, "it", "as found"), "do something")]


@pytest.fixture(autouse=True)
def _no_measuring_and_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "speed_checks", lambda device, seconds: [])
    monkeypatch.setattr("shutil.which", lambda program: None)


@pytest.mark.parametrize(
    ("verdict", "code"), [(Verdict.OK, 0), (Verdict.SLOWER, 0), (Verdict.NOT_SERVED, 0), (Verdict.WRONG, 1)]
)
def test_fails_where_something_is_wrong(
    verdict: Verdict, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "numeric_checks", one_check(verdict))
    assert main(["doctor", "--device", "cpu"]) == code
    printed = capsys.readouterr().out
    assert f"{verdict.value}  it: as found" in printed
    assert ("-> do something" in printed) == (verdict is Verdict.WRONG)
    for said in ("processor", "instruction set", "tadp/_C.so", "cache", "linear:int8", "attention:int8"):
        assert said in printed


def test_writes_a_file_that_names_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "someone"))
    monkeypatch.setenv("LOGNAME", "someone")
    monkeypatch.setattr("socket.gethostname", lambda: "lonely-host")
    detail = f"a file in {tmp_path}/home/someone/.cache of someone on lonely-host"
    monkeypatch.setattr(
        doctor, "numeric_checks", lambda device: [Check("it", lambda: Finding(Verdict.OK, "it", detail), "")]
    )
    path = tmp_path / "doctor.json"
    assert main(["doctor", "--device", "cpu", "--json", str(path)]) == 0
    text = path.read_text()
    for name in ("someone", "lonely-host", str(tmp_path)):
        assert name not in text
    document = json.loads(text)
    assert document["schema_version"] == doctor.SCHEMA_VERSION
    assert document["findings"] == [
        {"verdict": "OK", "subject": "it", "detail": "a file in ~/.cache of USER on HOST", "way_out": ""}
    ]
    assert document["machine"]["instruction_set"] in document["machine"]["instruction_sets"]
    assert document["machine"]["library"]["cpu"]
    assert document["machine"]["cache"]["free_bytes"] > 0
    assert {row["device"] for row in document["kernels"]} == {"cpu"}


def test_looks_at_every_device_unless_one_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[torch.device] = []
    monkeypatch.setattr(doctor, "numeric_checks", lambda device: seen.append(device) or [])
    assert main(["doctor"]) == 0
    assert seen == machine.devices()


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(name="NVIDIA H100"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (70 * 2**30, 80 * 2**30))
    assert machine.describe()["gpus"] == [
        {
            "name": "NVIDIA H100",
            "architecture": "sm_90",
            "memory_bytes": 80 * 2**30,
            "memory_free_bytes": 70 * 2**30,
            "cuda_kernels": False,
        }
    ]


def test_the_driver_is_asked_for_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program: f"/usr/bin/{program}")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: SimpleNamespace(stdout="580.10\n580.10\n"))
    assert machine.describe()["driver"] == "580.10"

    def fails(*_: Any, **__: Any) -> Any:
        raise subprocess.CalledProcessError(9, "nvidia-smi")

    monkeypatch.setattr("subprocess.run", fails)
    assert machine.describe()["driver"].startswith("nvidia-smi does not answer: CalledProcessError")


def test_a_device_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--device", "cuda:7"]) == 2
    assert "--device: 'cuda:7' cannot be used here" in capsys.readouterr().err
