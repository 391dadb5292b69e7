"""sigan: portraits in the style of a few references. Public names load on first use, so that importing is instant.

    import sigan
    faces = sigan.align("anna.jpg")
    picture = sigan.Stylizer("watercolor").stylize(faces[0])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:  # the names of _LAZY once more, for type checkers, editors and the API's page
    from sigan.alignment import AlignedFace as AlignedFace
    from sigan.alignment import DlibAligner as DlibAligner
    from sigan.alignment import Face as Face
    from sigan.alignment import align as align
    from sigan.bases import Base as Base
    from sigan.bases import load as load_base
    from sigan.evaluation import evaluate as evaluate
    from sigan.evaluation import ssim as ssim
    from sigan.inversion import invert as invert
    from sigan.packs import PackManifest as PackManifest
    from sigan.packs import StylePack as StylePack
    from sigan.stylization import StylizeConfig as StylizeConfig
    from sigan.stylization import Stylizer as Stylizer
    from sigan.stylization import stylize_folder as stylize_folder
    from sigan.training import StyleTrainer as StyleTrainer
    from sigan.training import TrainConfig as TrainConfig

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
    "AlignedFace", "Base", "ConfigError", "DlibAligner", "Face", "Failure", "InputError", "ItemDone", "NoFaceError",
    "OfflineError", "OutputError", "PackError", "PackManifest", "SiganError", "StylePack", "StyleTrainer",
    "StylizeConfig", "Stylizer", "TrainConfig", "TrainStep", "UnknownStyleError", "UnreadableImageError",
    "WeightsError", "__version__", "align", "evaluate", "invert", "load_base", "ssim", "stylize_folder",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'sigan' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    value = getattr(import_module(f"sigan.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
