"""Whole images, for tests that compare all of their pixels."""

from types import SimpleNamespace

from appulse.files import open_image


def read_image(path, hdu=None):
    """What `open_image` says of an image, and all of its pixels as ``data``."""
    with open_image(path, hdu) as source:
        data = source.window(slice(None), slice(None))
        return SimpleNamespace(data=data, header=source.header, hdu_name=source.hdu_name, wcs=source.wcs)
