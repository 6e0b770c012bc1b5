"""The main job: image in, result out. Read this from top to bottom to know the program."""

from __future__ import annotations

import math
import operator
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from appulse.engine.assembly import Assembly
from appulse.engine.job import Job
from appulse.engine.observation import observe
from appulse.engine.provenance import provenance_of, warnings_of
from appulse.engine.stages import run
from appulse.files import InputError
from appulse.inference.background import measure_noise
from appulse.inference.blocks import Blocks
from appulse.inference.mesh import CELL
from appulse.inference.sampler import Mode, Sampler
from appulse.inference.store import MemoryStore
from appulse.inference.two_step import EDGE
from appulse.network.weights import Model, load_model
from appulse.progress import Progress
from appulse.result import Result

Method = Literal["two-step", "sliding", "grid"]

# Seeds below this have streams of their own (numpy's SeedSequence takes keys in words of 32 bits).
SEED_LIMIT = 2**32
# Width of a block, pixels: large beside a stamp, small beside the memory of any machine.
BLOCK = 2048


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
    origin: tuple[int, int] = (0, 0),
    device: str = "auto",
    block: int = BLOCK,
    progress: Progress | None = None,
) -> Result:
    """Segment an image: background, galaxies, overlaps, and the uncertainty of every pixel and galaxy.

    Parameters
    ----------
    image : str, Path or (height, width) array
        FITS file, or pixels in any unit: an array, a masked array (masked pixels are bad), or a Quantity.
    model : str, Path or Model
        Bundled name, ``.safetensors`` file, or a loaded model.
    samples : int
        Realisations (the paper draws 50).
    seed : int
        Of all randomness.
    method : {"two-step", "sliding", "grid"}
        ``two-step``: every object in its own centred stamp (paper, appendix B). ``sliding``: one pass of
        overlapping stamps, blended. ``grid``: one pass, fastest.
    operating_point : str
        One of the model's: ``balanced``, ``complete``, ``pure``.
    mode : {"copula", "latent"}
        How realisations are drawn; ``latent`` is the paper's.
    hdu : str or int, optional
        HDU of the image.
    rms, variance, weight : str, Path, array or float, optional
        At most one: noise, its square, or its inverse square, in the image's units. Files may name an HDU:
        ``field.fits[ERR]``. By default the noise in the image's own file, where `appulse.files.recognise`
        knows its layout (Euclid, HST, JWST, Rubin); ``"none"`` leaves that out, and the noise is measured.
    mask : str, Path or array, optional
        Non-zero is bad. By default the mask in the image's own file, in the same way; ``"none"`` leaves that
        out.
    subtract_background : bool
        Whether to estimate and subtract the background.
    origin : (y0, x0), pixels
        Where the image's first pixel lies in a larger one that it was cut from, in multiples of 448 for the
        bundled models. From two stamps inside the cut on everything is then what the larger one gives, but
        labels, numbers of blends and positions in pixels, which are those of the cutout.
    device : {"auto", "cpu", "cuda"}
        Where the network runs.
    block : int, pixels
        Width of the blocks of work, a multiple of the model's stamp; no result depends on it.
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
    point = model.operating_point(operating_point)
    if method not in get_args(Method):
        raise InputError(f"unknown method {method!r}; known: {', '.join(get_args(Method))}.")
    if mode not in ("copula", "latent"):
        raise InputError(f"unknown mode {mode!r}; known: copula, latent.")
    samples, seed, block = (
        _whole(name, number) for name, number in {"samples": samples, "seed": seed, "block": block}.items()
    )
    if not 0 <= seed < SEED_LIMIT:
        raise InputError(f"seed is {seed}; it must be from 0 to {SEED_LIMIT - 1}.")
    if samples < 1:
        raise InputError(f"samples is {samples}; at least 1 realisation is needed.")
    maps = {"rms": rms, "variance": variance, "weight": weight, "mask": mask}
    with observe(image, hdu, maps) as opened:
        observation = opened.read()
    origin = check_origin(origin, model.network.config.stamp_size)
    sampler = Sampler(model, samples, seed, mode, choose_device(device), origin)
    blocks = Blocks(observation.exposure.shape, check_block(block, sampler.size))
    noise = measure_noise(observation.exposure, subtract_background=subtract_background, progress=progress)
    store = MemoryStore(blocks.shape, samples)
    job = Job(observation.exposure, noise, sampler, point, method, blocks, store)
    run(job, progress=progress)
    assembly = Assembly.of(job, observation.unit, observation.wcs)
    provenance = provenance_of(job, observation, operating_point)
    return assembly.in_memory(observation, provenance, warnings_of(job))


def _whole(name: str, number: int) -> int:
    try:
        return operator.index(number)
    except TypeError:
        raise InputError(f"{name} is {number!r}; it must be a whole number.") from None


def check_block(block: int, stamp_size: int) -> int:
    """A width of blocks that every method can work in.

    Parameters
    ----------
    block : int, pixels
        As the user gave it.
    stamp_size : int, pixels
        Of the model.

    Raises
    ------
    InputError
        It is no multiple of the stamp.
    """
    if block < stamp_size or block % stamp_size:
        raise InputError(f"block is {block}; it must be a multiple of the model's stamp ({stamp_size}).")
    return block


def check_origin(origin: tuple[int, int], stamp_size: int) -> tuple[int, int]:
    """A place on the grids of stamps of all methods, and on that of the background's mesh.

    Parameters
    ----------
    origin : (y0, x0), pixels
        As the user gave it.
    stamp_size : int, pixels
        Of the model.

    Raises
    ------
    InputError
        It is not on both, or negative.
    """
    step = math.lcm(stamp_size - 2 * EDGE, stamp_size // 2, CELL)
    if len(origin) != 2 or any(place < 0 or place % step for place in origin):
        raise InputError(
            f"origin is {tuple(origin)}; it must be (y0, x0), both multiples of {step}: there the grid of "
            "stamps and the mesh of the background both begin again. Cut the image there."
        )
    return int(origin[0]), int(origin[1])


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
