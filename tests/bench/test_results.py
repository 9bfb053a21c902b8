"""The calibration and the samples in bench/results can be read, and belong together."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from bench.models.model import demo_calibration
from bench.quality import pareto
from tadp.calibration.samples import SampleFile
from tadp.files.calibration import load

RESULTS = Path(__file__).resolve().parents[2] / "bench" / "results"
CALIBRATION = RESULTS / "calibration.json"


def test_a_calibration_of_an_earlier_version_serves_benchmarks_of_the_same_weights() -> None:
    calibration = demo_calibration(CALIBRATION)
    (fingerprint,) = calibration.key["models"].values()
    calibration.check(fingerprint)
    with pytest.raises(ValueError, match="another model"):
        calibration.check("of other weights")
    assert calibration.costs == load(CALIBRATION).costs


@pytest.mark.parametrize(("kind", "policies"), [("static", pareto.STATIC), ("adaptive", pareto.ADAPTIVE)])
def test_every_sample_has_an_outcome_of_every_policy(tmp_path: Path, kind: str, policies: tuple[str, ...]) -> None:
    path = Path(shutil.copy(RESULTS / "pareto-samples" / f"{kind}.jsonl", tmp_path))
    key = json.loads(path.read_text().partition("\n")[0])
    del key["schema"]
    samples = SampleFile(path, key).samples
    assert len(samples) == 144
    assert all(set(policies) <= set(sample.outcomes) for sample in samples)
    if kind == "adaptive":
        assert key["calibration"] == hashlib.sha256(CALIBRATION.read_bytes()).hexdigest()[:16]
    else:
        assert all(pareto.PROBE.key in sample.outcomes for sample in samples)
