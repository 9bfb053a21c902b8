"""What diffusers is told of a model that tadp quantizes: `tadp.TadpConfig`."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from diffusers.quantizers.quantization_config import QuantizationConfigMixin

from tadp.compiler.rotating import roles_of
from tadp.compiler.saving import METHOD
from tadp.kernels.formats import GROUP_SIZES
from tadp.policy import Policy, parse

AUTO = "auto"


class Method(str, Enum):
    """What ``quant_method`` says in a model's configuration."""

    TADP = METHOD


class TadpConfig(QuantizationConfigMixin):
    """A quantization config of diffusers: ``from_pretrained(..., quantization_config=TadpConfig("complexity"))``.

    The model comes back compiled, as `tadp.compile` leaves it. Of a pipeline's components it goes to the transformers:
    ``PipelineQuantizationConfig(quant_mapping={"transformer": TadpConfig()})``.

    Attributes:
        policy: as `tadp.compile` takes it; None: what a saved model followed, and "complexity" for others.
        calibration: likewise: "auto", the path of a file, or None.
        group_size: likewise; for weights that are not packed yet, as `rotate` and `codes`.
        rotate: likewise: "auto", names of roles, or None.
        codes: likewise: a directory that `tadp compensate` wrote.
        fingerprint: of the model that saved weights were packed from; "" for others.
        packing: how saved weights were packed.
    """

    def __init__(
        self,
        policy: str | Policy | None = None,
        calibration: str | None = AUTO,
        group_size: int | None = None,
        rotate: Sequence[str] | str | None = AUTO,
        codes: str | None = None,
        fingerprint: str = "",
        packing: Mapping[str, Any] | None = None,
        quant_method: str = Method.TADP,
    ) -> None:
        """Raises ValueError for a policy, a group size or a role that does not exist."""
        self.quant_method = Method(quant_method)
        if policy is not None:
            parse(policy)
        if group_size is not None and group_size not in GROUP_SIZES:
            raise ValueError(f"group_size is None or one of {GROUP_SIZES}, not {group_size!r}")
        if rotate != AUTO:
            roles_of(rotate or ())
        self.policy, self.calibration = policy, calibration
        self.group_size, self.rotate, self.codes = group_size, rotate, codes
        self.fingerprint, self.packing = fingerprint, dict(packing or {})

    def to_diff_dict(self) -> dict[str, Any]:
        """What differs from the defaults."""
        defaults = TadpConfig().to_dict()
        own = self.to_dict()
        return {name: value for name, value in own.items() if name == "quant_method" or value != defaults[name]}

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; a policy as its name."""
        content = dict(self.__dict__)
        policy = content["policy"]
        return {
            **content,
            "quant_method": str(self.quant_method.value),
            "policy": None if policy is None else str(policy),
            "calibration": None if self.calibration is None else str(self.calibration),
            "codes": None if self.codes is None else str(self.codes),
        }
