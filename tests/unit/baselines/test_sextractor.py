"""The SExtractor program, against SEP where it is installed."""

import numpy as np
import pytest

from appulse.baselines import DetectorUnavailable, SepDetector, SextractorDetector
from appulse.baselines.sextractor import find_program


def scene():
    y, x = np.mgrid[:120, :120]
    image = np.random.default_rng(0).normal(size=(120, 120))
    for x0, y0 in [(25, 30), (80, 40), (60, 90), (67, 90)]:
        image += 30 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2 / 2.2**2)
    return image


def test_without_the_program_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DetectorUnavailable, match="apt install source-extractor"):
        SextractorDetector().detect(scene())


def test_a_program_that_fails_is_reported(monkeypatch, tmp_path):
    program = tmp_path / "sex"
    program.write_text("#!/bin/sh\necho 'cannot allocate' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="exit code 3: cannot allocate"):
        SextractorDetector().detect(scene())


def test_agrees_with_sep():
    try:
        find_program()
    except DetectorUnavailable as reason:
        pytest.skip(str(reason))
    image = scene()
    image[80:84, 20:24] = np.nan
    ours, theirs = (cls(threshold=2).detect(image) for cls in (SepDetector, SextractorDetector))
    assert ours.kinds.tolist() == theirs.kinds.tolist()
    np.testing.assert_array_equal(ours.objects > 0, theirs.objects > 0)
