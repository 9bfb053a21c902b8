from pathlib import Path

import pytest

from tadp.runtime.signals import SIGNALS, At, columns_of
from tadp.runtime.signals.declarations import column_of

PAGE = Path(__file__).parents[3] / "docs" / "signals.md"


def test_the_page_of_signals_names_every_column() -> None:
    page = PAGE.read_text()
    for signal in SIGNALS:
        for column in signal.columns:
            assert f"`{column.name.partition(':')[0]}" in page, f"docs/signals.md does not mention {column.name}"


def test_names_in_a_history_lead_back_to_their_declaration() -> None:
    assert column_of("quantization_error:6") in columns_of("rounding")
    assert column_of("shadow_error:8+attention:8") is columns_of("shadow")[0]
    assert column_of("relative_change_delta") is columns_of("change")[0]
    assert column_of("colour") is None


def test_names_are_unique() -> None:
    names = [signal.name for signal in SIGNALS] + [column.name for signal in SIGNALS for column in signal.columns]
    assert len(names) == len(set(names))


def test_every_place_has_a_signal() -> None:
    assert {signal.at for signal in SIGNALS} == set(At)


def test_an_unknown_signal_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown signal 'colour'"):
        columns_of("colour")
