"""Families of models: a declaration a file, and the rules for classes that nobody declared."""

from collections.abc import Mapping

import torch

from tadp.families.allegro import ALLEGRO
from tadp.families.auraflow import AURAFLOW
from tadp.families.chroma import CHROMA
from tadp.families.cogvideox import COGVIDEOX
from tadp.families.cosmos import COSMOS
from tadp.families.dit import DIT
from tadp.families.easyanimate import EASYANIMATE
from tadp.families.family import Family
from tadp.families.flux import FLUX
from tadp.families.flux2 import FLUX2
from tadp.families.generic import GENERIC
from tadp.families.hidream import HIDREAM
from tadp.families.hunyuan_video import HUNYUAN_VIDEO
from tadp.families.kandinsky import KANDINSKY
from tadp.families.krea import KREA
from tadp.families.ltx import LTX
from tadp.families.lumina import LUMINA
from tadp.families.mochi import MOCHI
from tadp.families.pixart import PIXART
from tadp.families.qwen_image import QWEN_IMAGE
from tadp.families.sana import SANA
from tadp.families.sd3 import SD3
from tadp.families.skyreels import SKYREELS
from tadp.families.wan import WAN
from tadp.families.z_image import Z_IMAGE

FAMILIES: list[Family] = [
    WAN,
    SKYREELS,
    HUNYUAN_VIDEO,
    LTX,
    COGVIDEOX,
    MOCHI,
    COSMOS,
    ALLEGRO,
    EASYANIMATE,
    SANA,
    FLUX,
    FLUX2,
    SD3,
    QWEN_IMAGE,
    Z_IMAGE,
    PIXART,
    DIT,
    AURAFLOW,
    LUMINA,
    HIDREAM,
    CHROMA,
    KREA,
    KANDINSKY,
]
"""All declared families."""


def register(family: Family) -> Family:
    """Declare a family. Its classes are known from then on; a class that was declared before is declared anew.

    Raises:
        ValueError: for a family without classes.
    """
    if not family.classes:
        raise ValueError(f"the family {family.name!r} names no classes")
    FAMILIES.insert(0, family)
    return family


def family_of(model: torch.nn.Module) -> Family:
    """The family of a model, by its class or one that it derives from; `GENERIC` where none is declared."""
    for kind in type(model).__mro__:
        for family in FAMILIES:
            if kind.__name__ in family.classes:
                return family
    return GENERIC


def component_dtypes(pipeline_class: str) -> Mapping[str, str]:
    """The floating types that components of a diffusers pipeline need, whatever its transformer has.

    Wan's autoencoder, for one, loses visible detail at 16 bits, so diffusers' documentation keeps it in float32.
    """
    for family in FAMILIES:
        if pipeline_class.startswith(tuple(family.pipelines)) and family.pipelines:
            return family.component_dtypes
    return {}
