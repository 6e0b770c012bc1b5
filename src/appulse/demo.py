"""``appulse demo``: a simulated field and a real one, from nothing to pictures and catalogues."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from appulse.files import atomic_write
from appulse.network.weights import load_model
from appulse.progress import Progress
from appulse.segmentation import segment
from appulse.sky.field import simulate_field
from appulse.sky.simulate import refuse_other_field
from appulse.sky.stored_field import field_name, read_field, write_field
from appulse.sky.survey import Survey
from appulse.words import galaxies_in_words

# A test seed: no bundled model has seen it.
DEMO_SEED = 9999
# Weights of Rec. 709. The picture's grey scale is not linear in flux, which no weights can mend.
_LUMINANCE = (0.2126, 0.7152, 0.0722)
_SHOWN = (
    "label",
    "blend_id",
    "x_centroid",
    "y_centroid",
    "area",
    "area_std",
    "flux",
    "flux_std",
    "p_detect",
    "p_blend",
)


def run_demo(
    output: str | Path,
    *,
    size: int = 1024,
    progress: Progress | None = None,
) -> str:
    """Simulate a Euclid-like field, write the Hubble Deep Field as FITS, and segment both.

    Parameters
    ----------
    output : str or Path
        Directory for everything.
    size : int, pixels
        Width of the simulated field.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    str
        Paths of what was made, and the first rows of the catalogues.

    Raises
    ------
    UsageError
        The directory holds a field of another size.
    """
    output = Path(output)
    loaded = load_model("euclid")
    simulated, survey = output / field_name(DEMO_SEED, 0), Survey.load("euclid-wide")
    if simulated.exists():
        refuse_other_field(simulated, survey, size, DEMO_SEED)
    else:
        write_field(simulate_field(survey, size, DEMO_SEED, progress=progress), simulated)
    truth = read_field(simulated)
    hubble = output / "hubble_deep_field.fits"
    write_hubble(hubble)

    lines = []
    for path, note in (
        (simulated, f"simulated; {len(truth.catalog)} galaxies were drawn"),
        (hubble, "real: luminance of scikit-image's 8-bit picture, so outlines mean more than fluxes"),
    ):
        result = segment(path, model=loaded, progress=progress)
        written = result.write(output, path.stem)
        lines += [
            f"{path} ({note})",
            galaxies_in_words(result.summary()),
            *result.catalog[list(_SHOWN)][:5].pformat(max_width=-1),
            *(f"  {each}" for each in written),
            "",
        ]
    return "\n".join(lines)


def write_hubble(path: str | Path) -> None:
    """Write the luminance of the Hubble Deep Field picture in scikit-image's package as FITS.

    Parameters
    ----------
    path : str or Path
        File to write.
    """
    from skimage.data import hubble_deep_field

    luminance = hubble_deep_field().astype(np.float32) @ np.array(_LUMINANCE, np.float32)
    # A picture's first row is at the top; FITS counts from the bottom.
    hdu = fits.PrimaryHDU(np.ascontiguousarray(luminance[::-1]))
    hdu.header["OBJECT"] = "Hubble Deep Field"
    atomic_write(path, hdu.writeto)
