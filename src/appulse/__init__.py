"""appulse: probabilistic segmentation of overlapping galaxies in FITS images.

>>> import appulse
>>> result = appulse.segment("field.fits", model="euclid", samples=50, seed=0)
>>> result.write("out")
"""

from importlib import import_module
from typing import TYPE_CHECKING

from appulse.version import __version__

if TYPE_CHECKING:
    from appulse.files import InputError
    from appulse.network.weights import Model, load_model
    from appulse.result import Result
    from appulse.segmentation import segment

__all__ = ["InputError", "Model", "Result", "__version__", "load_model", "segment"]

# Where the public names live. They are loaded when asked for: torch alone takes seconds.
_HOMES = {
    "InputError": "appulse.files",
    "Model": "appulse.network.weights",
    "Result": "appulse.result",
    "load_model": "appulse.network.weights",
    "segment": "appulse.segmentation",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
