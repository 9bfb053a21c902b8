"""NVIDIA GPUs whose kernels tadp can foretell something about: what they do in a cycle, by data sheet."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """A GPU, with rates a cycle at the clock of its data sheet.

    Attributes:
        name: as it is called on the command line.
        capability: compute capability.
        multiprocessors: how many it has switched on.
        clock: GHz at which its data sheet counts products.
        products: int8 multiply-adds of a multiprocessor's tensor cores, dense.
        word_operations: shifts and logic operations on 32 bits of a multiprocessor.
        cache: bytes that the L2 cache gives to all multiprocessors.
        cache_is_estimated: whether NVIDIA publishes no figure for that.
        memory: GB/s of the device's memory.
        shared: bytes of shared memory of a multiprocessor.
        registers: of 32 bits, of a multiprocessor.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    clock: float
    products: int
    word_operations: int
    cache: int
    cache_is_estimated: bool
    memory: int
    shared: int
    registers: int = 65536

    @property
    def architecture(self) -> str:
        """The capability as "sm_90" and its like."""
        return f"sm_{self.capability[0]}{self.capability[1]}"

    @property
    def cache_of_one(self) -> float:
        """Bytes a cycle of the L2 cache for one of its multiprocessors, when all of them read."""
        return min(self.cache / self.multiprocessors, _PORT)


_PORT = 64
"""Bytes a cycle that a multiprocessor can take from the L2 cache (NVIDIA, "A100 Tensor Core GPU Architecture")."""

# Multiprocessors, int8 rates, clocks and memory are those of NVIDIA's whitepapers and data sheets of each GPU: int8
# TOP/s are products * 2 * multiprocessors * clock. Shared memory and word operations are from the CUDA C++ programming
# guide ("Technical specifications per compute capability", "Arithmetic instructions"); consumer Blackwell doubles
# integer units ("NVIDIA RTX Blackwell GPU Architecture"). The cache of the A100 gives 5,120 bytes a cycle by its
# whitepaper. For the others NVIDIA publishes no figure: Hopper's cache is taken to be as fast, each of the two dies of
# a B200 as well, and that of GeForce and L40S to give every multiprocessor 16 bytes a cycle. Microbenchmarks reach two
# thirds of such figures and more.
GPUS = (
    Gpu("A100", (8, 0), 108, 1.41, 2048, 64, 5120, False, 2039, 164 * 1024),
    Gpu("RTX4090", (8, 9), 128, 2.52, 1024, 64, 16 * 128, True, 1008, 100 * 1024),
    Gpu("L40S", (8, 9), 142, 2.52, 1024, 64, 16 * 142, True, 864, 100 * 1024),
    Gpu("H100", (9, 0), 132, 1.83, 4096, 64, 5120, True, 3350, 228 * 1024),
    Gpu("B200", (10, 0), 148, 1.85, 8192, 64, 2 * 5120, True, 8000, 228 * 1024),
    Gpu("RTX5090", (12, 0), 170, 2.41, 1024, 128, 16 * 170, True, 1792, 100 * 1024),
)
"""In the order of their capabilities; all in the SXM form where there is one."""


def gpu_called(name: str) -> Gpu:
    """The GPU of that name.

    Raises:
        ValueError: if it is not in the table.
    """
    found = {gpu.name.lower(): gpu for gpu in GPUS}.get(name.lower().replace(" ", "").replace("-", ""))
    if found is None:
        raise ValueError(f"{name!r} is no GPU of the table; there are {', '.join(gpu.name for gpu in GPUS)}")
    return found
