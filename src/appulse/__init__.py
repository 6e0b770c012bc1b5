"""appulse: probabilistic segmentation of overlapping galaxies in FITS images."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("appulse")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
