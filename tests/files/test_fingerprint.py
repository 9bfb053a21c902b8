import torch

from tadp.files.fingerprint import calibration_key, fingerprint


def _model(seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Linear(16, 1024)).to(dtype)


def test_equal_models_have_equal_fingerprints() -> None:
    assert fingerprint(_model()) == fingerprint(_model())


def test_other_weights_types_and_names_have_others() -> None:
    renamed = torch.nn.ModuleDict({"a": _model()[0], "b": _model()[1]})  # type: ignore[index]
    changed = _model()
    with torch.no_grad():
        changed[1].weight += 1e-3  # type: ignore[index,operator]
    models = [_model(), _model(1), _model(dtype=torch.bfloat16), renamed, changed]
    assert len({fingerprint(model) for model in models}) == len(models)


def test_the_key_holds_call_and_versions_but_not_the_form_of_the_output() -> None:
    key = calibration_key({"transformer": "abc"}, {"num_frames": 17, "output_type": "np"})
    assert key["call"] == {"num_frames": 17}
    assert set(key["versions"]) == {"tadp", "torch"}  # type: ignore[call-overload]
    assert "+" not in key["versions"]["torch"]  # type: ignore[index]
