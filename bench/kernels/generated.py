"""Reading what Inductor writes for a GPU: its kernels, what each stores to memory, and how often each is launched."""

import ast
import math
import re
from dataclasses import dataclass

BYTES = {"i1": 1, "i8": 1, "u8": 1, "fp16": 2, "bf16": 2, "i16": 2, "fp32": 4, "i32": 4, "fp64": 8, "i64": 8}
"""Of an element, by Triton's name of its type."""

_KERNEL = re.compile(r"^(\w+) = async_compile\.triton\('\w+', '''(.*?)^'''", re.M | re.S)
_SIGNATURE = re.compile(r"'signature': (\{[^}]*\})")
_LAUNCH = re.compile(r"^ +(\w+)\.run\((.*), stream=\w+\)", re.M)
_ALLOCATED = re.compile(r"^ +(\w+) = empty_strided_cuda\((\([^)]*\))", re.M)
_VIEWED = re.compile(r"^ +(\w+) = reinterpret_tensor\(\w+, (\([^)]*\))", re.M)
_RETURNED = re.compile(r"assert_tensor_metadata\((\w+), (\([^)]*\))")
_RENAMED = re.compile(r"^ +(\w+) = (\w+); del \w+", re.M)


@dataclass(frozen=True)
class Written:
    """One kernel that Inductor wrote.

    Attributes:
        name: tells the operations that it is made of.
        arguments: in order, with Triton's type of each, such as "*bf16".
        stores: arguments that it stores to.
        loads: arguments that it loads from.
    """

    name: str
    arguments: tuple[tuple[str, str], ...]
    stores: frozenset[str]
    loads: frozenset[str]

    def type_of(self, argument: str) -> str:
        """Triton's type of the elements of an argument."""
        return dict(self.arguments)[argument].removeprefix("*")

    @property
    def scratch(self) -> frozenset[str]:
        """What it stores and loads again itself."""
        return frozenset(name for name in self.stores & self.loads if name.startswith("out_ptr"))

    @property
    def normalizes(self) -> bool:
        """Whether it holds a layer norm."""
        return "native_layer_norm" in self.name

    @property
    def quantizes(self) -> bool:
        """Whether it writes codes of activations."""
        return any(self.type_of(name) == "i8" for name in self.stores)


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel.

    Attributes:
        kernel: what is launched.
        elements: of what it stores, by argument.
    """

    kernel: Written
    elements: tuple[tuple[str, int], ...]

    def stored_bytes(self, arguments: frozenset[str] | None = None) -> int:
        """Bytes that it stores, to some of its arguments or to all."""
        return sum(
            count * BYTES[self.kernel.type_of(name)]
            for name, count in self.elements
            if arguments is None or name in arguments
        )

    @property
    def copies_of_codes(self) -> int:
        """How many copies of a tensor of codes it stores."""
        return sum(self.kernel.type_of(name) == "i8" for name, _ in self.elements)


def kernels_of(source: str) -> dict[str, Written]:
    """The kernels that a module of Inductor's defines, by name."""
    found = {}
    for name, body in _KERNEL.findall(source):
        signature = _SIGNATURE.search(body)
        assert signature is not None, name
        arguments = ast.literal_eval(signature[1])
        found[name] = Written(
            name,
            tuple(arguments.items()),
            frozenset(re.findall(r"tl\.store\((\w+)", body)),
            frozenset(re.findall(r"tl\.load\((\w+)", body)),
        )
    return found


def launches_of(source: str) -> list[Launch]:
    """The launches of a module of Inductor's, in order."""
    kernels = kernels_of(source)
    sizes = _sizes(source)
    found = []
    for name, text in _LAUNCH.findall(source):
        kernel = kernels[name]
        given = [argument.strip() for argument in text.split(",")]
        named = dict(zip((name for name, _ in kernel.arguments), given, strict=False))
        elements = tuple((name, sizes[named[name]]) for name in sorted(kernel.stores))
        found.append(Launch(kernel, elements))
    return found


def _sizes(source: str) -> dict[str, int]:
    """Elements of each buffer, by name; a buffer's name is given once."""
    found: dict[str, int] = {}
    shapes = [match for pattern in (_ALLOCATED, _VIEWED, _RETURNED) for match in pattern.findall(source)]
    for name, shape in shapes:
        found.setdefault(name, math.prod(ast.literal_eval(shape)))
    for name, other in _RENAMED.findall(source):
        if other in found:
            found.setdefault(name, found[other])
    return found
