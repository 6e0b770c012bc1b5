"""The models that come with appulse: their names, cards and ranges, known without loading one."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from importlib import resources

from appulse.files import InputError
from appulse.network.validity import Validity

_BUNDLED = resources.files("appulse") / "weights"
# SHA-256 of the bundled weight files; loading one that differs is an error.
BUNDLED_SHA256 = {
    "euclid": "1eb285361c015d1aabfee776579261c16f434ec2426e4f2416956e2f29a05d36",
    "mixed": "255dd3200caa244a43b6c09cfef248e8934cc74c7aa1ece09d491fac0f0a2cc2",
    "paper": "d2c4467bf3fd14b567faec1e3660f2d2a33497899fb5f2db089522e39a1253be",
}
# Models that a warning may advise. What `paper` knows, `euclid` knows better.
_ADVISED = ("euclid", "mixed")


def model_names() -> list[str]:
    """Names of the bundled models, sorted."""
    return sorted(
        entry.name.removesuffix(".safetensors")
        for entry in _BUNDLED.iterdir()
        if entry.name.endswith(".safetensors")
    )


def model_card(name: str) -> str:
    """Text of a bundled model's card.

    Parameters
    ----------
    name : str
        One of `model_names`.
    """
    return (_BUNDLED / f"{name}.md").read_text()


def bundled_content(name: str) -> bytes:
    """Weight file of a bundled model, as it was released.

    Parameters
    ----------
    name : str
        One of `model_names`.

    Raises
    ------
    InputError
        The file is another one.
    """
    content = (_BUNDLED / f"{name}.safetensors").read_bytes()
    if hashlib.sha256(content).hexdigest() != BUNDLED_SHA256.get(name):
        raise InputError(f"bundled model {name!r} is not the file that was released; install appulse again.")
    return content


@functools.cache
def bundled_ranges() -> dict[str, Validity]:
    """What images each bundled model is for, by its name; read from the headers of the weight files."""
    ranges = {}
    for name in model_names():
        with (_BUNDLED / f"{name}.safetensors").open("rb") as stream:
            header = stream.read(int.from_bytes(stream.read(8), "little"))
        ranges[name] = Validity.of(json.loads(json.loads(header)["__metadata__"]["training"]))
    return ranges


def range_warnings(
    taken: Validity,
    correlation: float,
    coverage: float,
    width: float,
    *,
    noise_given: bool = False,
    subtracted: bool = True,
) -> list[str]:
    """What of an image lies outside a model's range, and which bundled models it lies inside instead.

    Parameters
    ----------
    taken : Validity
        The model's.
    correlation, coverage, width, noise_given, subtracted
        As `Validity.warnings` takes them.

    Returns
    -------
    list of str
        One sentence each; empty where the model fits.
    """
    found = taken.warnings(correlation, coverage, width, noise_given=noise_given, subtracted=subtracted)
    if not taken.warnings(correlation, 0.0, width):  # of a crowd no model knows more than another
        return found
    ranges = bundled_ranges()
    fitting = [name for name in _ADVISED if not ranges[name].warnings(correlation, 0.0, width)]
    if fitting:
        known = "such a PSF and such noise" if math.isfinite(width) else "such noise"
        found.append(f"model {' or '.join(map(repr, fitting))} knows images with {known}")
    return found
