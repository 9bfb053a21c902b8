"""Builds tadp/_C.so through CMakeLists.txt and names the wheel; pyproject.toml holds everything else."""

import os
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext


class CMakeBuild(build_ext):
    """The build_ext step, done by CMake and Ninja."""

    def get_ext_filename(self, fullname: str) -> str:
        # The library holds operators, not a Python module: its name carries no interpreter tag.
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext: Extension) -> None:
        source = Path(__file__).resolve().parent
        build = Path(self.build_temp).resolve() / "cmake"
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        configure = [
            "cmake",
            *("-S", str(source), "-B", str(build), "-G", "Ninja"),
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={target.parent}",
            "-DCMAKE_BUILD_TYPE=Release",
        ]
        # 0 leaves the CUDA kernels out, 1 demands them. Without a value CMakeLists.txt decides.
        wish = os.environ.get("TADP_CUDA")
        if wish:
            configure.append(f"-DTADP_CUDA={'OFF' if wish == '0' else 'ON'}")
        # cmake and ninja come from PyPI and stand beside the interpreter, which need not be on PATH.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        environment = {**os.environ, "PATH": path}
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(configure, check=True, env=environment)
        subprocess.run(["cmake", "--build", str(build)], check=True, env=environment)


class AnyPython(bdist_wheel):
    """A wheel for one platform and every Python.

    The library is opened by `torch.ops.load_library`. It uses LibTorch's stable ABI and no function of Python, not even
    the limited API that a tag `abi3` stands for. So the tag is ``py3-none-PLATFORM``; `requires-python` says which
    versions of Python are supported.
    """

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[Extension("tadp._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild, "bdist_wheel": AnyPython},
)
