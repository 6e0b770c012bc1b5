"""Training and test stamps: cut from simulated fields once, shown with fresh depth and noise every time."""

from appulse.stamps.config import StampConfig
from appulse.stamps.cutting import build_store, stored_stamps
from appulse.stamps.drawing import StampBatch, StampSource
from appulse.stamps.grid import grid_stamps
from appulse.stamps.store import StampStore
from appulse.stamps.test_set import ObjectStamps, build_test_set, list_test_set, read_test_set

__all__ = [
    "ObjectStamps",
    "StampBatch",
    "StampConfig",
    "StampSource",
    "StampStore",
    "build_store",
    "build_test_set",
    "grid_stamps",
    "list_test_set",
    "read_test_set",
    "stored_stamps",
]
