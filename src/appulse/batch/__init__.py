"""Many images in one directory: which are done, what failed, and nothing mixed up or lost."""

from appulse.batch.options import BatchOptions
from appulse.batch.run import run_batch

__all__ = ["BatchOptions", "run_batch"]
