"""How diffusers loads models with a `TadpConfig`, once it was told of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.quantizers import auto
from diffusers.quantizers.base import DiffusersQuantizer
from safetensors import safe_open

from tadp.compiler.model import compile
from tadp.compiler.packing import Origin
from tadp.compiler.quantization_config import Method, TadpConfig
from tadp.compiler.state import methods_of
from tadp.compiler.transformer import compile_transformer, named, order_for
from tadp.files.checksums import checksum
from tadp.files.manifest import NAME, Manifest
from tadp.files.packed import PARTS, assemble, packed_weights
from tadp.files.saved import weights_digest
from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.kernels.formats import PLANE_BITS
from tadp.policy import parse
from tadp.policy.policy import DEFAULT

PACKS = ("group_size", "rotate", "codes")
"""Fields of a config that say how weights are packed."""


class TadpQuantizer(DiffusersQuantizer):
    """Puts packed weights together while files are read, and compiles the model when all are there."""

    use_keep_in_fp32_modules = True
    required_packages = ("tadp",)

    def __init__(self, quantization_config: TadpConfig, **options: Any) -> None:
        super().__init__(quantization_config, **options)
        self._facts: dict[str, Mapping[str, Any]] = {}
        self._parts: dict[str, dict[str, torch.Tensor]] = {}
        self._manifest: Manifest | None = None
        self._directory: Path | None = None

    @property
    def is_serializable(self) -> bool:
        """Compiled models have a `save_pretrained` of their own."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Packed weights have no gradients."""
        return False

    @property
    def supports_parallel_loading(self) -> bool:
        """Parts of one weight may lie in several files."""
        return False

    def get_cuda_warm_up_factor(self) -> int:
        """Packed weights take half of what 16 bits do."""
        return 4 if self.pre_quantized else 2

    def maybe_update_loaded_keys(self, loaded_keys: list[str], checkpoint_files: list[str]) -> list[str]:
        """What diffusers is to count as loaded: a packed weight once, in place of its parts.

        Raises:
            ValueError: for files that are damaged.
        """
        files = [Path(file) for file in checkpoint_files if isinstance(file, (str, Path))]
        self._directory = files[0].parent if files else None
        if not self.pre_quantized:
            return loaded_keys
        digests: set[str] = set()
        for file in files:
            with safe_open(file, framework="pt") as content:
                self._facts |= packed_weights(content.metadata())
                digests.add(weights_digest(content.metadata() or {}))
        if self._directory is not None and (self._directory / NAME).exists():
            self._manifest = Manifest.load(self._directory)
            if digests != {self._manifest.weights}:
                raise ValueError(f"the files in {self._directory} say other things of packed weights than {NAME}")
        parts = {f"{name}.{part}" for name in self._facts for part in PARTS}
        return [*(key for key in loaded_keys if key not in parts), *self._facts]

    def maybe_update_state_dict(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """The tensors of one file: those of packed weights are kept until a weight has all of its own.

        Raises:
            ValueError: for tensors that do not have their checksum, and parts that do not fit.
        """
        if not self._facts:
            return state_dict
        found: dict[str, Any] = {}
        for key, tensor in state_dict.items():
            self._check(key, tensor)
            name, _, part = key.rpartition(".")
            if name in self._facts and part in PARTS:
                self._parts.setdefault(name, {})[part] = tensor
            else:
                found[key] = tensor
        for name in [name for name, parts in self._parts.items() if {*PLANE_BITS, "scale"} <= set(parts)]:
            found[name] = assemble(name, self._facts[name], self._parts.pop(name))
        return found

    def check_if_quantized_param(
        self, model: Any, param_value: torch.Tensor, param_name: str, state_dict: dict[str, Any], **kwargs: Any
    ) -> bool:
        """Whether a parameter needs `create_quantized_param`: packed weights do."""
        return isinstance(param_value, BitPlaneWeight)

    def create_quantized_param(
        self, model: Any, param_value: torch.Tensor, param_name: str, target_device: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Put a packed weight in its place."""
        path, _, leaf = param_name.rpartition(".")
        weight = param_value.to(device=target_device)
        model.get_submodule(path)._parameters[leaf] = torch.nn.Parameter(weight, requires_grad=False)

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> None:
        return None

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        config = self.quantization_config
        if lacking := sorted(self._parts):
            raise ValueError(f"the files in {self._directory} lack parts of {', '.join(lacking[:3])}")
        model.is_quantized = False  # a compiled model says itself what cannot be done with it
        policy = parse(DEFAULT if config.policy is None else config.policy)
        if self._directory is not None:
            model.register_to_config(_name_or_path=str(self._directory))  # where masters and a calibration may lie
        if self.pre_quantized:
            origin = Origin(config.fingerprint, config.packing)
            order = order_for(model, policy, named(config.calibration), None, None, "auto", None, origin)
            compile_transformer(model, order, True, {}, methods_of)
        else:
            compile(
                model,
                policy,
                calibration=config.calibration,
                group_size=config.group_size,
                rotate=config.rotate,
                codes=config.codes,
            )
        return model

    def _check(self, key: str, tensor: torch.Tensor) -> None:
        place = None if self._manifest is None else self._manifest.tensors.get(key)
        if place is not None and checksum(tensor) != place.checksum:
            assert self._directory is not None
            raise ValueError(f"{self._directory / place.file} is damaged: {key} does not have the checksum in {NAME}")


def let_diffusers_read_saved_models() -> None:
    """Let diffusers find the config and the quantizer by the name in a model's configuration.

    diffusers takes a saved model's own config and leaves out the one that is passed; a policy that is passed is meant,
    so it takes the saved one's place.
    """
    if Method.TADP.value in auto.AUTO_QUANTIZER_MAPPING:
        return
    auto.AUTO_QUANTIZER_MAPPING[Method.TADP.value] = TadpQuantizer
    auto.AUTO_QUANTIZATION_CONFIG_MAPPING[Method.TADP.value] = TadpConfig
    merged = auto.DiffusersAutoQuantizer.merge_quantization_configs

    def merge(saved: Any, passed: Any) -> Any:
        method = saved.get("quant_method") if isinstance(saved, dict) else getattr(saved, "quant_method", None)
        if method != Method.TADP or not isinstance(passed, TadpConfig):
            return merged(saved, passed)
        own = TadpConfig.from_dict(saved) if isinstance(saved, dict) else saved
        usual = TadpConfig()
        if asked := [name for name in PACKS if getattr(passed, name) != getattr(usual, name)]:
            raise ValueError(f"{', '.join(asked)} of TadpConfig: the weights are packed already; leave it out")
        own.policy = own.policy if passed.policy is None else passed.policy
        own.calibration = passed.calibration
        return own

    auto.DiffusersAutoQuantizer.merge_quantization_configs = staticmethod(merge)
