"""The main job: image in, result out. Read this from top to bottom to know the program."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from appulse.engine.assembly import Assembly
from appulse.engine.job import Job
from appulse.engine.observation import observe
from appulse.engine.provenance import provenance_of, warnings_of
from appulse.engine.settings import BLOCK, Method, Settings
from appulse.engine.stages import run
from appulse.inference.sampler import Mode
from appulse.inference.store import MemoryStore
from appulse.network.weights import Model, load_model
from appulse.progress import Progress
from appulse.result import Result


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
        knows its layout (Euclid, HST, JWST, Rubin, others with HDUs SCI, ERR and DQ); ``"none"`` leaves that
        out, and the noise is measured.
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
    settings = Settings(
        samples=samples,
        seed=seed,
        method=method,
        operating_point=operating_point,
        mode=mode,
        subtract_background=subtract_background,
        origin=origin,
        device=device,
        block=block,
    )
    if isinstance(model, str | Path):
        model = load_model(model)
    settings.check(model)
    maps = {"rms": rms, "variance": variance, "weight": weight, "mask": mask}
    with observe(image, hdu, maps) as opened:
        observation = opened.read()
    store = MemoryStore(observation.exposure.shape, settings.samples)
    job = Job.of(observation, settings.sampler(model), settings, store, progress)
    run(job, progress=progress)
    provenance = provenance_of(job, observation, operating_point)
    return Assembly.of(job, observation).in_memory(provenance, warnings_of(job))
