"""What is loaded by what: measured in processes of their own."""

import subprocess
import sys

import pytest

import tadp
from tadp.version import VERSION

pytestmark = pytest.mark.spawns

_LOADED = "import sys, {module}; print(*sorted(set(name.partition('.')[0] for name in sys.modules) & {names!r}))"
OPTIONAL = {"scipy", "cv2", "matplotlib", "torchmetrics", "rich", "lemminflect", "imageio_ffmpeg", "yaml"}


def _loaded(module: str, names: set[str]) -> list[str]:
    code = _LOADED.format(module=module, names=names)
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize("module", ["tadp.compiler", "tadp.policy", "tadp.planning.planner, tadp.files.calibration"])
def test_compiling_loads_no_optional_package(module: str) -> None:
    assert _loaded(module, OPTIONAL | {"diffusers", "transformers"}) == []


@pytest.mark.parametrize("module", ["tadp", "tadp.cli"])
def test_help_loads_no_large_package(module: str) -> None:
    assert _loaded(module, OPTIONAL | {"torch", "numpy", "PIL", "diffusers", "transformers"}) == []


def test_planning_knows_no_policies() -> None:
    code = (
        "import importlib, pkgutil, sys, tadp.planning as p\n"
        "for found in pkgutil.iter_modules(p.__path__, 'tadp.planning.'): importlib.import_module(found.name)\n"
        "print(*(name for name in sys.modules if name.startswith('tadp.policy')))"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.split() == []


def test_the_version_is_written_once() -> None:
    assert tadp.__version__ == VERSION
