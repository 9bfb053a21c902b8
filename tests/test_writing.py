"""Files that are whole or absent."""

from pathlib import Path

import pytest

from tadp.writing import replacing


def test_a_file_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "report.json"
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert temporary.suffix == ".json"
        assert not target.exists()
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_write_leaves_the_file_before_it(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")

    def interrupted() -> None:
        with replacing(target) as temporary:
            temporary.write_text("ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
