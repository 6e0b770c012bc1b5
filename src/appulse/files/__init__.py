"""FITS, WCS, units, byte order: what every byte passes on its way in, and atomic writing for its way out.

The layout of what appulse writes is in `appulse.products`.
"""

from appulse.files.errors import InputError, UsageError
from appulse.files.images import ImageSource, Plane, open_image, split_hdu, stem
from appulse.files.instruments import Layout, recognise
from appulse.files.units import any_unit, of_flux, refuse_nonlinear
from appulse.files.wcs import pixel_scale, wcs_cards
from appulse.files.writing import (
    atomic_write,
    create_json,
    refuse_unwritable,
    remove_folder,
    remove_temporaries,
    sole_process,
    sync_folder,
    temporary_for,
    write_json,
)
