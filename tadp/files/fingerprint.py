"""What a calibration holds for: a model, how it is called, and the versions that measured it."""

import hashlib
import operator
from collections.abc import Iterable, Mapping

import torch

from tadp.families.family import plain_name
from tadp.families.names import is_adapter
from tadp.version import VERSION

_SAMPLED = 4096  # values of a tensor that are read: enough to tell any two trainings apart


def fingerprint(model: torch.nn.Module) -> str:
    """A hash of a model's parameters: names, shapes, types, and a sample of the values of each.

    Reads little of each tensor, so that models of many gigabytes take seconds; to be taken before weights are packed.
    """
    return fingerprint_of(model.named_parameters())


def fingerprint_of(parameters: Iterable[tuple[str, torch.Tensor]]) -> str:
    """The same of parameters by name, in any order; adapters do not count."""
    named = ((plain_name(name), parameter) for name, parameter in parameters if not is_adapter(name))
    return fingerprint_of_samples((name, sample(name, parameter)) for name, parameter in named)


def sample(name: str, parameter: torch.Tensor) -> bytes:
    """What a fingerprint reads of one parameter, for parameters that are not in memory together."""
    values = parameter.detach().flatten()
    taken = values[:: max(1, values.numel() // _SAMPLED)].to("cpu", torch.float32).contiguous()
    facts = f"{name} {tuple(parameter.shape)} {parameter.dtype};".encode()
    return facts + taken.view(torch.uint8).numpy().tobytes()


def fingerprint_of_samples(samples: Iterable[tuple[str, bytes]]) -> str:
    """The fingerprint of parameters by their samples, in any order."""
    digest = hashlib.sha256()
    for _, content in sorted(samples, key=operator.itemgetter(0)):
        digest.update(content)
    return digest.hexdigest()[:32]


def calibration_key(models: Mapping[str, str], arguments: Mapping[str, object]) -> dict[str, object]:
    """What two measurements must have in common to be put together.

    Args:
        models: fingerprints by component.
        arguments: of the pipeline's call, but for prompt and generator.
    """
    call = {name: value for name, value in sorted(arguments.items()) if name != "output_type"}
    return {"models": dict(models), "call": call, "versions": versions()}


def versions() -> dict[str, str]:
    """What measures; a build of torch for another device is the same version."""
    return {"tadp": VERSION, "torch": torch.__version__.partition("+")[0]}
