import platform

import pytest

from tadp.runtime import heap


@pytest.mark.parametrize(
    ("library", "calls"), [(("glibc", "2.36"), 1), (("glibc", "2.38"), 0), (("glibc", "2.41"), 0), (("", ""), 0)]
)
def test_memory_is_given_back_where_the_allocator_would_keep_it(
    library: tuple[str, str], calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trimmed: list[int] = []

    class Library:
        def malloc_trim(self, padding: int) -> int:
            trimmed.append(padding)
            return 1

    monkeypatch.setattr(platform, "libc_ver", lambda: library)
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: Library())
    heap._trim.cache_clear()
    heap.give_back_freed_memory()
    heap._trim.cache_clear()
    assert trimmed == [0] * calls


def test_it_can_be_called_here() -> None:
    heap.give_back_freed_memory()
