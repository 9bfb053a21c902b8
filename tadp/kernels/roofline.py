"""How much of a GPU's int8 rate the product of codes may reach with a tile: arithmetic on data sheets, not a timing.

Each share is a ceiling that one resource sets while all others cost nothing; the lowest one limits. Shares compare
tiles with each other on one GPU. They foretell no time: caches miss, clocks fall, and what is assumed below is not
measured.
"""

from dataclasses import dataclass, fields

from tadp.kernels.gpus import Gpu
from tadp.kernels.triton.tile import WARP_GROUPS, Tile
from tadp.kernels.triton.unpack import fields as code_fields

_RESERVED = 1024
"""Bytes of shared memory that CUDA takes for each program (CUDA C++ programming guide)."""

_SECTORS = 64
"""Bytes of one cache line that a slice of the L2 cache gives in a cycle. Assumed of all GPUs; it is so on the A100.

A run of 32 bytes, which is one sector of a line, then takes as long as one of 64.
"""

_WAIT = 60
"""Cycles from the end of a product to the start of the next one of the same warps, beside unpacking: assumed.

In them the fence, the wait, the issue and the filling of the tensor cores take place.
"""

_THREADS = 1536
"""That a multiprocessor holds; some GPUs hold more, but there shared memory or registers limit before."""


@dataclass(frozen=True)
class Shares:
    """Ceilings as shares of the tensor cores' rate, 0 to 1.

    Attributes:
        cache: what the L2 cache's rate allows.
        segments: the same, if runs of bytes shorter than what a slice gives at once cost as much as longer ones.
        waits: what waiting for products leaves, with the programs that a multiprocessor holds.
        unpacking: what putting codes together leaves, if it overlaps with products.
        memory: what reading each operand once, and writing the result, from the device's memory allows.
        programs: how full the last round of programs is.
    """

    cache: float
    segments: float
    waits: float
    unpacking: float
    memory: float
    programs: float

    @property
    def limit(self) -> str:
        """Name of the lowest; of equal ones the first."""
        return min(fields(self), key=lambda field: getattr(self, field.name)).name

    @property
    def lowest(self) -> float:
        """The lowest share."""
        return min(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class Product:
    """A product of codes on a GPU: ``tokens`` activations ``(tokens, columns)`` by a weight ``(rows, columns)``."""

    gpu: Gpu
    tile: Tile
    width: int
    tokens: int
    rows: int
    columns: int

    @property
    def bytes_per_product(self) -> float:
        """Bytes that a program asks of the L2 cache for each multiply-add."""
        return (self.tile.rows * self.width / 8 + self.tile.tokens) / (self.tile.rows * self.tile.tokens)

    @property
    def bytes_per_cycle(self) -> float:
        """Bytes that a multiprocessor asks of the L2 cache in a cycle while its tensor cores are never idle."""
        return self.bytes_per_product * self.gpu.products

    @property
    def run(self) -> int:
        """Bytes that a step reads side by side from a token's codes, and from a row of a plane."""
        return self.tile.bytes

    @property
    def depth(self) -> int:
        """Columns of one product: of four quarters, of one, or of two where one is short of 32 columns."""
        if self.tile.deep:
            return 4 * self.tile.bytes
        return max(self.tile.bytes, 32)

    def programs(self, registers: int | None = None) -> int:
        """Programs that a multiprocessor holds at once.

        Args:
            registers: of a thread, where the kernel was compiled; else they are taken not to limit, up to the number
                that all threads of one program may have.
        """
        threads = 32 * self.tile.warps
        shared = self.gpu.shared // (self.tile.held_bytes(self.width, self.gpu.capability) + _RESERVED)
        held = min(shared, _THREADS // threads)
        needed = self._least_registers if registers is None else registers
        return max(min(held, self.gpu.registers // (threads * (-(-needed // 8) * 8))), 1)

    def shares(self, registers: int | None = None) -> Shares:
        """All ceilings; ``registers`` as for ``programs``."""
        gpu, tile = self.gpu, self.tile
        cache = gpu.cache_of_one / self.bytes_per_cycle
        held = self.programs(registers)
        tiles = -(-self.rows // tile.rows) * -(-self.tokens // tile.tokens) * tile.splits
        rounds = -(-tiles // (held * gpu.multiprocessors))
        products = self.tokens * self.rows * self.columns
        seconds = products / (gpu.products * gpu.multiprocessors * gpu.clock * 1e9)
        moved = self.tokens * self.columns + self.rows * self.columns * self.width / 8 + 2 * self.tokens * self.rows
        return Shares(
            cache=min(cache, 1.0),
            segments=min(cache * min(self.run / _SECTORS, 1.0), 1.0),
            waits=self._waits(held),
            unpacking=min(self._step_cycles / self._unpacking(tile.rows, 4 * tile.bytes), 1.0),
            memory=min(seconds / (moved / (gpu.memory * 1e9)), 1.0),
            programs=tiles / (rounds * held * gpu.multiprocessors),
        )

    @property
    def _step_cycles(self) -> float:
        """Cycles of the tensor cores for a step of a program."""
        return self.tile.rows * self.tile.tokens * 4 * self.tile.bytes / self.gpu.products

    def _unpacking(self, rows: int, columns: int) -> float:
        """Cycles that a multiprocessor takes to put so many codes together, four to a word."""
        planes = [code_fields(self.width, quarter) for quarter in range(4)]
        operations = sum(1 + (field.shift != 0) for quarter in planes for field in quarter) / len(planes)
        return rows * columns / 4 * operations / self.gpu.word_operations

    def _waits(self, programs: int) -> float:
        """The share that waiting leaves where products are those of warp groups; elsewhere nothing waits for them.

        Between two barriers a group unpacks, multiplies and waits, as often as a step has products. Groups of one
        program begin together: the first unpacks while no other multiplies. Another program fills the gaps.
        """
        tile = self.tile
        if self.gpu.capability[0] != WARP_GROUPS:
            return 1.0
        groups = max(tile.warps // 4, 1)
        products = 4 * tile.bytes // self.depth
        unpacking = self._unpacking(tile.rows // groups, self.depth)
        alone = products * (unpacking + self._step_cycles / (groups * products) + _WAIT)
        together = unpacking + self._step_cycles + _WAIT
        return min(programs * self._step_cycles / max(alone, together), 1.0)

    @property
    def _least_registers(self) -> int:
        """What a thread needs for sums and codes, and some for addresses: less than any compiled kernel takes."""
        threads = 32 * self.tile.warps
        return min(255, self.tile.rows * (self.tile.tokens + self.depth // 4) // threads + 32)
