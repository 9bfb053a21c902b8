"""A tiny RFD4 Proteina: tokens and pairs of tokens of a molecule, refined together over several passes.

Three layers in the trunk, since an update of the pairs follows every layer but the last; those updates live in a
dictionary of modules under the number of the layer. The forward gets its features in a dictionary, runs the trunk
`recycle_depth` times, and returns four tensors. The features are those of the released model, most of them absent.
"""

from dataclasses import dataclass
from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_TOKENS, _PADDING, _GIVEN = 24, 3, 4
_ATOMS = 37
_LATENT_DIM = 8
_BONDS = ("hbond", "pistack", "pication", "saltbridge", "hydrophobic", "metal-coord")


@dataclass(frozen=True)
class _WithCondition(Tiny):
    """A tiny model in which times matter.

    Two gated layers without a residual lead from them to the blocks; fresh weights would shrink them to nothing.
    """

    def model(self, seed: int = 0) -> torch.nn.Module:
        model = super().model(seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith("transition_c_"):
                    parameter.normal_(0.0, 2.0 * parameter.shape[1] ** -0.5, generator=generator)
        return model


def _conditioning(generator: torch.Generator) -> dict[str, Any]:
    """What is known of the molecule: two chains, nothing asked of any atom but a few hydrogen bonds."""
    position = torch.arange(_TOKENS)
    chain = (position >= _TOKENS // 2).long()[None]
    given = torch.zeros(1, _TOKENS, dtype=torch.bool)
    given[:, :_GIVEN] = True
    conditions: dict[str, Any] = {
        f"condition_{name}_1_atom": torch.zeros(1, _TOKENS, _ATOMS, dtype=torch.int64) for name in _BONDS
    }
    conditions["condition_hbond_1_atom"] = torch.randint(0, 4, (1, _TOKENS, _ATOMS), generator=generator)
    return {
        **conditions,
        "condition_sequence_1_residue": torch.randint(0, 20, (1, _TOKENS), generator=generator),
        "condition_index-group_1_token": torch.zeros(1, _TOKENS, dtype=torch.int64),
        "molecule_iid": chain,
        "molecule_entity_id": chain,
        "token_bond_path_length": (position[:, None] - position).abs()[None],
        "is_in_context_conditioning": given,
        "supports_local_latent": torch.ones(1, _TOKENS, dtype=torch.bool),
    }


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Noisy backbone in nanometres and noisy latents, two times in 0..1, and two passes."""
    padding = torch.ones(1, _TOKENS, dtype=torch.bool)
    padding[:, -_PADDING:] = False
    return {
        "bb_ca": torch.randn(1, _TOKENS, 3, generator=generator) * padding[..., None],
        "local_latents": torch.randn(1, _TOKENS, _LATENT_DIM, generator=generator) * padding[..., None],
        "bb_ca_time": torch.tensor(0.5).expand(1),
        "local_latents_time": torch.tensor(0.4).expand(1),
        "padding_mask": padding,
        "token_type": torch.zeros(1, _TOKENS, dtype=torch.int64),
        "atom37_mask": torch.ones(1, _TOKENS, _ATOMS, dtype=torch.bool),
        "conditioning": _conditioning(generator),
        "recycle_depth": 2,
        "attention_kwargs": None,
    }


TINY: tuple[Tiny, ...] = (
    _WithCondition(
        name="RFD4ProteinaTransformer",
        config={
            "nlayers": 3,
            "token_dim": 64,
            "nheads": 4,
            "dim_cond": 32,
            "pair_repr_dim": 32,
            "latent_dim": _LATENT_DIM,
            "token_type_emb_dim": 8,
            "cath_emb_dim": 4,
            "t_emb_dim": 32,
            "seq_sep_dim": 16,
            "xt_pair_dist_dim": 16,
            "update_pair_repr_every_n": 1,
            "tri_mult_c": 32,
            "num_sequence_classes": 20,
        },
        inputs=_inputs,
    ),
)
