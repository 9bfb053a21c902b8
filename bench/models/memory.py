"""How many bytes do weights take, by policy, and how high does memory rise while a model is packed?"""

import resource

import torch
from diffusers import WanTransformer3DModel

import tadp
from bench.models.model import demo_inputs, demo_transformer
from bench.record import parser, record


def main() -> None:
    """Weight bytes of the embedded model, then the peak while packing one of 500 MB."""
    options = parser(__doc__).parse_args()
    plain = sum(parameter.nbytes for parameter in demo_transformer().parameters())
    model = tadp.compile(demo_transformer(), policy="static:8")
    rows = []
    for policy in ("static:8", "static:6", "static:4", "static:16"):
        model.tadp.use(policy)
        model(**demo_inputs())
        found = model.tadp.weight_bytes()
        rows.append({"policy": policy, "weight bytes": found, "of the 16-bit model": found / plain})
    before, peak, size, layer = packing_peak()
    record(
        "memory",
        rows,
        options.json,
        bytes_of_the_16_bit_model=plain,
        packing={"model, MB": size, "largest layer, MB": layer, "resident before, MB": before, "peak, MB": peak},
    )


def packing_peak() -> tuple[float, float, float, float]:
    """Resident megabytes before and at the peak of packing, size of the model and of its largest layer."""
    model = WanTransformer3DModel(
        num_attention_heads=8, attention_head_dim=128, ffn_dim=4096, num_layers=12, text_dim=1024
    )
    model = model.bfloat16().eval()
    size = sum(parameter.nbytes for parameter in model.parameters())
    layer = max(module.weight.nbytes for module in model.modules() if isinstance(module, torch.nn.Linear))
    before = _peak()
    tadp.compile(model, policy="static:8")
    return before / 1e6, _peak() / 1e6, size / 1e6, layer / 1e6


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
