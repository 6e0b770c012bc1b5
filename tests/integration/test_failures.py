"""`benchmarks/failures.py`: a test set that its fit does not know is refused before anything is fitted."""

import concurrent.futures
import dataclasses
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from appulse.sky import Survey
from appulse.sky.population import Bulges
from appulse.stamps import ObjectStamps
from appulse.stamps.test_set import write_test_set

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "failures.py"


def test_bulges_are_refused_before_the_fits(tmp_path, monkeypatch):
    survey = dataclasses.replace(Survey.load("paper"), bulges=Bulges(0.5))
    empty = np.zeros((2, 16, 16), np.uint8)
    numbers = ("flux", "half_light_radius", "x", "y", "ellipticity", "orientation", "sersic_index")
    galaxies = Table({name: np.ones(2) for name in numbers})
    galaxies["stamp"], galaxies["number"] = np.array([[1, 1], [1, 2]], np.int32)
    objects = Table({"label": [1, 1]})
    write_test_set(
        ObjectStamps(empty.astype(np.float32), empty, empty, empty, objects, galaxies, survey),
        tmp_path / "test.fits",
    )
    scores = Table(
        {
            "kind": ["isolated", "blended"],
            "n_galaxies": [1, 2],
            "stamp": [0, 1],
            "outcome_model": ["isolated", "missed"],
        }
    )
    scores.write(tmp_path / "test_set_objects.ecsv")
    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", lambda _: pytest.fail("fits begin"))
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, str(tmp_path), str(tmp_path / "test.fits")])
    with pytest.raises(SystemExit, match="a test set of such is needed"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
