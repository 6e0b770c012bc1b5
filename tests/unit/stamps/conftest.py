"""Simulated skies, and the stores cut from them."""

import dataclasses

import pytest

from appulse.sky import Population, Survey, simulate_field, write_field
from appulse.sky.stored_field import field_name
from appulse.stamps import StampConfig, StampStore, build_store
from skies_by_hand import PLAIN, SURVEY, blobs, field_of


@pytest.fixture
def store_of(tmp_path):
    """Cut a store from fields: ``store_of(field, ..., config=, count=)``."""

    def build(*fields, config=PLAIN, count=64, **options) -> StampStore:
        number = len(list(tmp_path.iterdir()))
        folder = tmp_path / f"fields{number}"
        folder.mkdir()
        for field in fields:
            write_field(field, folder / field_name(field.seed, field.index))
        return build_store(tmp_path / f"store{number}", folder, config, count=count, workers=1, **options)

    return build


@pytest.fixture(scope="session")
def sky_directory(tmp_path_factory):
    """Two simulated fields, crowded enough for pixels of three galaxies, of two PSFs and two depths."""
    folder = tmp_path_factory.mktemp("sky")
    crowded = dataclasses.replace(
        Survey.load("paper"), name="crowded", population=Population(density=400.0, magnitude_bright=21.0)
    )
    wider = dataclasses.replace(
        crowded, name="wider", noise=26.8, psf=dataclasses.replace(crowded.psf, fwhm=0.3)
    )
    for index, (survey, shape) in enumerate(((crowded, (128, 160)), (wider, (160, 96)))):
        field = simulate_field(survey, shape, seed=5, index=index)
        write_field(field, folder / field_name(5, index))
    return folder


@pytest.fixture
def photon_store(store_of):
    """Three fields of the same galaxies: without photon noise, with, and with correlated noise, too."""
    photons = dataclasses.replace(SURVEY, gain=0.5 / SURVEY.sigma)
    surveys = (SURVEY, photons, dataclasses.replace(photons, correlation=0.9))
    third = [(y, 35, 4.0) for y in range(36, 44)]
    fields = [field_of(*blobs((64, 64)), third, survey=survey, index=i) for i, survey in enumerate(surveys)]
    return store_of(*fields, count=60)


@pytest.fixture(scope="session")
def sky_store(sky_directory, tmp_path_factory):
    config = StampConfig(size=32)
    return build_store(
        tmp_path_factory.mktemp("store") / "stamps", sky_directory, config, count=200, workers=1
    )
