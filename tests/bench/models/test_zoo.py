import pytest

from bench.models.zoo import Verdict, page
from tadp.demo.tiny import all_tiny, exported, tiny_of

FINE = {"static:16": 1e-7, "static:8": 1e-3, "static:4": 1e-2}


@pytest.mark.parametrize(
    ("verdict", "fault"),
    [
        (Verdict("A", errors={**FINE, "static:16": 2e-5}, torch_error=2e-5), "static:16 is 2.0e-05 from eager"),
        (Verdict("A", errors={**FINE, "static:8": 0.0}), "static:8 is 0.0e+00 from eager"),
        (Verdict("A", errors={**FINE, "static:8": 0.2}), "static:8 is 2.0e-01 from eager"),
        (Verdict("A", errors={**FINE, "static:4": 1e-3}), "no further from eager"),
        (Verdict("A", errors={**FINE, "static:4": float("nan")}), "no further from eager"),
        (Verdict("A", errors=FINE, recompiled=2), "captured 2 graphs"),
        (Verdict("A", errors=FINE, unexplained=("blocks.0.mix",)), "no reason for blocks.0.mix"),
        (Verdict("A", failure="IndexError: out of range"), "IndexError: out of range"),
        (Verdict("A"), "was not run"),
    ],
)
def test_every_fault_is_told(verdict: Verdict, fault: str) -> None:
    assert any(fault in told for told in verdict.faults)
    assert "0 of 1" in "\n".join(page([verdict]))


def test_a_class_without_faults_holds() -> None:
    verdict = Verdict("A", "Wan", 2, 18, 20, FINE, reasons={"it is small": 2})
    assert verdict.faults == ()
    text = "\n".join(page([verdict]))
    assert "1 of 1 classes hold" in text
    assert "| A | Wan | 2 | 18 of 20 | 1.0e-07 | 1.0e-03 | 1.0e-02 | 2: it is small |  |" in text


def test_every_transformer_of_diffusers_has_a_tiny_model() -> None:
    assert {tiny.name for tiny in all_tiny()} == set(exported())


def test_an_unknown_class_says_where_to_add_it() -> None:
    with pytest.raises(LookupError, match="add one to tadp/demo/tiny"):
        tiny_of("NoTransformerModel")
