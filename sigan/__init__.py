"""sigan: portraits in the style of a few references. Public names load on first use, so that importing is instant.

    import sigan
    faces = sigan.align("anna.jpg")
    picture = sigan.Stylizer("watercolor").stylize(faces[0])
"""

from __future__ import annotations

from importlib import import_module

from sigan.errors import (
    ConfigError,
    InputError,
    NoFaceError,
    OfflineError,
    OutputError,
    PackError,
    SiganError,
    UnknownStyleError,
    UnreadableImageError,
    WeightsError,
)
from sigan.events import Failure, ItemDone, TrainStep

__version__ = "0.1.0"

# public name -> (module, name there); resolved by __getattr__ (PEP 562)
_LAZY = {
    "AlignedFace": ("alignment", "AlignedFace"),
    "DlibAligner": ("alignment", "DlibAligner"),
    "Face": ("alignment", "Face"),
    "align": ("alignment", "align"),
    "Base": ("bases", "Base"),
    "load_base": ("bases", "load"),
    "invert": ("inversion", "invert"),
    "PackManifest": ("packs", "PackManifest"),
    "StylePack": ("packs", "StylePack"),
    "StyleTrainer": ("training", "StyleTrainer"),
    "TrainConfig": ("training", "TrainConfig"),
    "StylizeConfig": ("stylization", "StylizeConfig"),
    "Stylizer": ("stylization", "Stylizer"),
    "stylize_folder": ("stylization", "stylize_folder"),
    "evaluate": ("evaluation", "evaluate"),
    "ssim": ("evaluation", "ssim"),
}

__all__ = [
    "ConfigError", "Failure", "InputError", "ItemDone", "NoFaceError", "OfflineError", "OutputError", "PackError",
    "SiganError", "TrainStep", "UnknownStyleError", "UnreadableImageError", "WeightsError", "__version__", *_LAZY,
]


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module 'sigan' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    value = getattr(import_module(f"sigan.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
