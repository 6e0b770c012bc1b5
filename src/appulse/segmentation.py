"""The main job: image in, result out. Read this from top to bottom to know the program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

import appulse
from appulse.describe import describe_field
from appulse.files import Image, InputError, open_image, read_map, split_hdu
from appulse.inference.background import scale_to_noise
from appulse.inference.realisations import Mode, Sampler
from appulse.inference.two_step import first_pass, second_pass
from appulse.network.calibration import OperatingPoint
from appulse.network.weights import Model, load_model
from appulse.result import Result

Method = Literal["two-step", "grid"]

# Seeds below this have streams of their own (numpy's SeedSequence takes keys in words of 32 bits).
SEED_LIMIT = 2**32


def segment(
    image: str | Path | np.ndarray,
    *,
    model: str | Path | Model = "euclid",
    samples: int = 50,
    seed: int = 0,
    method: Method = "two-step",
    operating_point: str = "balanced",
    mode: Mode = "copula",
    hdu: str | int | None = None,
    rms: str | Path | np.ndarray | float | None = None,
    variance: str | Path | np.ndarray | float | None = None,
    weight: str | Path | np.ndarray | float | None = None,
    mask: str | Path | np.ndarray | None = None,
    subtract_background: bool = True,
    device: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> Result:
    """Segment an image: background, galaxies, overlaps, and the uncertainty of every pixel and galaxy.

    Parameters
    ----------
    image : str, Path or (height, width) array
        FITS file, or pixels in any unit.
    model : str, Path or Model
        Bundled name, ``.safetensors`` file, or a loaded model.
    samples : int
        Realisations (the paper draws 50).
    seed : int
        Of all randomness.
    method : {"two-step", "grid"}
        ``two-step``: every object in its own centred stamp (paper, appendix B). ``grid``: one pass, faster.
    operating_point : str
        One of the model's: ``balanced``, ``complete``, ``pure``.
    mode : {"copula", "latent"}
        How realisations are drawn; ``latent`` is the paper's.
    hdu : str or int, optional
        HDU of the image.
    rms, variance, weight : str, Path, array or float, optional
        At most one: noise, its square, or its inverse square, in the image's units. Files may name an HDU:
        ``field.fits[ERR]``. By default the noise in the image's own file, where `appulse.files.recognise`
        knows its layout (Euclid, HST, JWST, Rubin).
    mask : str, Path or array, optional
        Non-zero is bad. By default the mask in the image's own file, in the same way.
    subtract_background : bool
        Whether to estimate and subtract the background.
    device : {"auto", "cpu", "cuda"}
        Where the network runs.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    Result

    Raises
    ------
    InputError
        An image, map, model or option that cannot be used; says why in one line.
    """
    if isinstance(model, str | Path):
        model = load_model(model)
    point = choose_operating_point(model, operating_point)
    if method not in ("two-step", "grid"):
        raise InputError(f"unknown method {method!r}; known: two-step, grid.")
    if mode not in ("copula", "latent"):
        raise InputError(f"unknown mode {mode!r}; known: copula, latent.")
    if not 0 <= seed < SEED_LIMIT:
        raise InputError(f"seed is {seed}; it must be from 0 to {SEED_LIMIT - 1}.")
    if samples < 1:
        raise InputError(f"samples is {samples}; at least 1 realisation is needed.")
    noise_maps = {"rms": rms, "variance": variance, "weight": weight, "mask": mask}
    maps_used = {name: "given" for name, value in noise_maps.items() if value is not None}
    if isinstance(image, str | Path):
        with open_image(image, hdu) as opened:
            source, recognised = opened.read(), opened.recognised
            beside = opened.companions_beside(noise_maps)
            companions = {kind: plane.window(slice(None), slice(None)) for kind, plane in beside.items()}
            maps_used |= {kind: plane.hdu_name for kind, plane in beside.items()}
    else:
        source, recognised, companions = _from_array(image), "array", {}
    noise_maps = {name: _as_map(value, source) for name, value in noise_maps.items()} | companions
    scaled = scale_to_noise(source.data, **noise_maps, subtract_background=subtract_background)

    sampler = Sampler(model, samples, seed, mode, choose_device(device))
    maps = first_pass(scaled.scaled, sampler, progress)
    if method == "two-step":
        second_pass(scaled.scaled, maps, sampler, point, progress)
    provenance = {
        "version": appulse.__version__,
        "model": model.name,
        "sha256": model.sha256,
        "seed": seed,
        "samples": samples,
        "method": method,
        "mode": mode,
        "operating_point": operating_point,
        "t_galaxy": point.t_galaxy,
        "t_overlap": point.t_overlap,
        "input": recognised,
        "maps": "; ".join(f"{name} {origin}" for name, origin in maps_used.items()) or "none",
        "noise_ratio": round(float(scaled.noise_ratio), 4),
        "noise_correlation": round(float(scaled.correlation), 4),
    }
    return describe_field(
        source, scaled, maps, point, model.calibration, provenance, stamp_size=sampler.size, progress=progress
    )


def choose_operating_point(model: Model, name: str) -> OperatingPoint:
    """Thresholds of a model by name.

    Parameters
    ----------
    model : Model
        Its calibration holds them.
    name : str
        Of the operating point.

    Raises
    ------
    InputError
        The model has none of that name.
    """
    points = model.calibration.operating_points
    if name not in points:
        raise InputError(
            f"model {model.name!r} has no operating point {name!r}; it has: {', '.join(points)}."
        )
    return points[name]


def choose_device(name: str) -> str:
    """Resolve ``auto``, and refuse a device that is not there.

    Parameters
    ----------
    name : {"auto", "cpu", "cuda"}
        As the user gave it.

    Raises
    ------
    InputError
        CUDA asked for where there is none.
    """
    import torch

    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("device cuda: no CUDA device here; use --device cpu or auto.")
    return "cuda" if name in ("auto", "cuda") and available else "cpu"


def _from_array(data: np.ndarray) -> Image:
    data = np.asarray(data)
    if data.ndim != 2:
        raise InputError(f"the image has {data.ndim} axes {data.shape}; appulse needs a 2-D image.")
    data = data.astype(np.float32)
    return Image(np.where(np.isfinite(data), data, np.nan), None, Path("image"), "", None, None)


def _as_map(value, source: Image):
    if not isinstance(value, str | Path):
        return value
    path, hdu = split_hdu(value)
    if hdu is None and source.header is not None and path.resolve() == source.path.resolve():
        raise InputError(f"{value} is the image itself; name the HDU of the map, as in '{value}[ERR]'.")
    return read_map(path, source.data.shape, hdu)
