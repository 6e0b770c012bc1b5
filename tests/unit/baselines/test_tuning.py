"""Detectors at their best, on simulated fields."""

import dataclasses
import shutil

import numpy as np
import pytest
from astropy.io import fits

from appulse.baselines import (
    SepDetector,
    SextractorDetector,
    installed_detectors,
    kept,
    tuned_detectors,
    tuning,
)
from appulse.baselines.segments import CONTRASTS
from appulse.evaluation import Kind, true_objects
from appulse.sky.simulate import simulate_fields


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("validation")
    simulate_fields(folder, "euclid-crowded", size=256, fields=1, seed=2000)
    return folder


@pytest.fixture
def fields(simulated, tmp_path):
    """A copy in which nothing has been tuned."""
    return shutil.copytree(simulated, tmp_path / "fields")


def kept_in(folder):
    return sorted(path.name for path in folder.glob("tuned-*.json"))


def test_without_validation_the_usual_parameters_are_used_and_the_note_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    detectors, notes = tuned_detectors(None)
    assert detectors == [SepDetector()]
    assert "not tuned" in notes[0] and "apt install source-extractor" in notes[1]


def test_with_validation_each_detector_is_tuned_and_the_note_says_how(fields, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    stages = []
    options = {"n_trials": 6, "progress": lambda *stage: stages.append(stage)}
    (tuned,), notes = tuned_detectors(fields, **options)
    assert isinstance(tuned, SepDetector)
    total = stages[-1][2]
    done = [stage[1] for stage in stages]
    assert {stage[0] for stage in stages} == {"tuning SEP"} and {stage[2] for stage in stages} == {total}
    assert done == sorted(done) and done[:6] == [1, 2, 3, 4, 5, 6] and done[-1] == total > 6
    assert "best of 6 parameter sets, refined one by one, on 0.1 Mpixel" in notes[0]
    assert f"min_area {tuned.min_area}" in notes[0]
    (smaller,), notes = tuned_detectors(fields, n_trials=2, side=100)
    assert "on 0.0 Mpixel" in notes[0] and isinstance(smaller, SepDetector)


def test_what_takes_noise_for_objects_is_not_run_on_whole_fields(monkeypatch):
    """Of the same sky, in a corner, one finds hundreds of objects where there are a few."""
    image = np.random.default_rng(0).normal(size=(300, 300)).astype(np.float32)
    ternary = np.zeros(image.shape, np.uint8)
    for y, x in ((40, 40), (60, 90), (200, 220)):
        image[y : y + 8, x : x + 8] += 20
        ternary[y : y + 8, x : x + 8] = 1
    truth = true_objects(ternary, np.where(ternary, 1, 0), np.zeros_like(ternary))
    noisy, sober = SepDetector(threshold=0.7, min_area=3, smoothing="none"), SepDetector(threshold=3.0)
    monkeypatch.setattr(tuning, "_CORNER", 128)
    assert tuning._scored(noisy, [image], [truth]) == (0.0, 0.0)
    assert tuning._scored(sober, [image], [truth])[0] > 0.9
    monkeypatch.setattr(tuning, "_CORNER", 300)  # no more than a corner: looked at as it is
    assert 0.0 < tuning._scored(noisy, [image], [truth])[0] < 0.2


def test_processes_do_not_change_what_is_chosen(fields):
    alone = tuned_detectors(fields, n_trials=3, workers=1)
    for name in kept_in(fields):
        (fields / name).unlink()
    assert tuned_detectors(fields, n_trials=3, workers=2) == alone


@pytest.fixture
def tuned(monkeypatch):
    """Names of the detectors that a search was made for, instead of the search."""
    names = []

    def search(detector, images, truths, *, n_trials, progress=None):
        names.append(detector.name)
        return dataclasses.replace(detector, threshold=1.0 + 0.1 * len(names), min_area=5)

    monkeypatch.setattr(tuning, "tune", search)
    monkeypatch.setattr(tuning, "installed_detectors", lambda: ([SepDetector(), Sextractor()], []))
    return names


class Sextractor(SextractorDetector):
    """Needs no program as long as nothing is detected."""

    program = "SExtractor 2.0"


def test_what_was_tuned_is_found_again(fields, tuned):
    first = tuned_detectors(fields, n_trials=3)
    assert tuned_detectors(fields, n_trials=3) == first and tuned == ["SEP", "SExtractor"]
    assert kept_in(fields) == ["tuned-sep-3-1x4096.json", "tuned-sextractor-3-1x4096.json"]
    assert first[0] == [SepDetector(threshold=1.1, min_area=5), Sextractor(threshold=1.2, min_area=5)]


def test_a_stop_loses_only_the_detector_that_was_being_tuned(fields, tuned, monkeypatch):
    search = tuning.tune

    def until(detector, *args, **options):
        if detector.name == "SExtractor":
            raise KeyboardInterrupt
        return search(detector, *args, **options)

    monkeypatch.setattr(tuning, "tune", until)
    with pytest.raises(KeyboardInterrupt):
        tuned_detectors(fields, n_trials=3)
    monkeypatch.setattr(tuning, "tune", search)
    tuned_detectors(fields, n_trials=3)
    assert tuned == ["SEP", "SExtractor"]


def test_on_other_fields_or_by_other_means_it_is_tuned_anew(fields, tuned, monkeypatch):
    def tunes(**options):
        tuned.clear()
        tuned_detectors(fields, **{"n_trials": 3} | options)
        return list(tuned)

    both = ["SEP", "SExtractor"]
    assert tunes() == both and tunes() == []
    assert tunes(n_trials=4) == tunes(side=100) == both and tunes() == []  # all of them stay
    monkeypatch.setattr(Sextractor, "program", "SExtractor 2.1")
    assert tunes() == ["SExtractor"]
    monkeypatch.setattr(kept, "code_digest", lambda: "of other code")
    assert tunes() == both
    (fields / "tuned-sep-3-1x4096.json").write_text("[]")
    assert tunes() == ["SEP"]
    fits.setval(fields / "field_2000_00.fits", "OBJECT", value="another sky")
    assert tunes() == both


def test_beside_fields_that_cannot_be_written_to_it_is_kept_elsewhere(fields, tuned, tmp_path, monkeypatch):
    monkeypatch.setattr(kept.os, "access", lambda path, mode: path != fields)
    for _ in range(2):
        tuned_detectors(fields, n_trials=3, elsewhere=tmp_path / "out")
    assert tuned == ["SEP", "SExtractor"] and kept_in(fields) == [] and len(kept_in(tmp_path / "out")) == 2


def test_a_variant_differs_in_its_contrast_alone_and_more_contrast_finds_fewer_blends():
    detector = SepDetector(threshold=1.5)
    variants = detector.variants()
    assert list(variants) == sorted({*CONTRASTS, detector.deblend_contrast})
    y, x = np.mgrid[:80, :80]
    pair = sum(a * np.exp(-((x - x0) ** 2 + (y - 40) ** 2) / 2 / 3**2) for x0, a in ((32, 40), (46, 12)))
    image = pair + np.random.default_rng(0).normal(size=pair.shape)
    blends = [np.count_nonzero(each.detect(image).kinds == Kind.BLENDED) for each in variants.values()]
    assert blends == sorted(blends, reverse=True) and blends[0] == 1 and blends[-1] == 0
    assert detector.drawn(np.random.default_rng(0)) == detector.drawn(np.random.default_rng(0))


def test_parameters_are_drawn_in_the_order_that_they_always_were():
    """Tuned parameters in cards were: as drawn, and shown, before the detectors had a class in common."""
    drawn = [kind().drawn(np.random.default_rng(3)) for kind in (SepDetector, SextractorDetector)]
    usual = "threshold 0.854, min_area 5, deblend_nthresh 16, deblend_contrast 0.016"
    told = [f"{usual}, smoothing none, border_light 2", f"{usual}, border_light 2"]
    assert [tuning._settings(each) for each in drawn] == told


def test_installed_detectors_are_found(monkeypatch, tmp_path):
    program = tmp_path / "source-extractor"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    detectors, notes = installed_detectors()
    assert [each.name for each in detectors] == ["SEP", "SExtractor"] and notes == []
