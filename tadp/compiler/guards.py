"""Which of Dynamo's guards the blocks can do without.

Guards are checked at every call of every block, each time out of cold caches, as the block before has just streamed
its weights through them: on the embedded model they are most of what a call costs beyond its kernels.
"""

from collections.abc import Callable, Sequence
from types import ModuleType

from torch._dynamo.types import GuardFilterEntry

from tadp.kernels.bitplanes import BitPlaneWeight

GuardFilter = Callable[[Sequence[GuardFilterEntry]], Sequence[bool]]

BUILTINS = "__builtins_dict__"
METADATA = "TENSOR_SUBCLASS_METADATA_MATCH"


def guard_filter(asked: GuardFilter | None = None, packed_alike: bool = True) -> GuardFilter:
    """A filter for torch.compile's option ``guard_filter_fn`` that drops guards on what cannot change.

    - The insides of a `BitPlaneWeight`, of which Dynamo guards every plane like an input of its own. Planes never
      change shape, type or device under their weight; the guard on the weight itself stays, and checks its class too.
      What it does not check is how the weight was packed, which a captured graph depends on.
    - That ``torch`` and other imported modules are still themselves, and that ``len`` is ``len``. Functions stay
      guarded: replacing `scaled_dot_product_attention` is noticed.

    Args:
        asked: another filter, which has a say in the guards that are left.
        packed_alike: whether all weights that one graph may be called with are packed alike, rotated for instance;
            where they are not, guards tell them apart.
    """
    told = ("TYPE_MATCH", METADATA) if packed_alike else ("TYPE_MATCH",)

    def keep(entries: Sequence[GuardFilterEntry]) -> list[bool]:
        packed = {entry.name for entry in entries if isinstance(entry.value, BitPlaneWeight)}
        kept = [not _cannot_fail(entry, packed, told) for entry in entries]
        if asked is None:
            return kept
        return [ours and theirs for ours, theirs in zip(kept, asked(entries), strict=True)]

    return keep


def _cannot_fail(entry: GuardFilterEntry, packed: set[str], told: tuple[str, ...]) -> bool:
    if entry.name in packed:
        return entry.guard_type in told
    inside = entry.name.startswith(tuple(f"{name}." for name in packed))
    return inside or isinstance(entry.value, ModuleType) or BUILTINS in entry.name
