"""Architectures: presets as the paper prints them, and settings that cannot work."""

import dataclasses
import json

import pytest

from appulse.network.calibration import IDENTITY, Calibration, ErrorBars, OperatingPoint
from appulse.network.config import PRESETS, NetworkConfig


def test_paper_preset_is_the_papers_text():
    paper = NetworkConfig.preset("paper")
    assert paper.filters == (32, 64, 128, 192, 192, 192, 256)
    assert (paper.convolutions_per_level, paper.normalisation) == (1, "none")
    assert (paper.latent_dimensions, paper.encoder_poolings, paper.encoder_head) == (10, 7, "flatten")
    assert (paper.combiner_layers, paper.combiner_filters) == (1, 32)
    assert (paper.input_scaling, paper.stamp_size) == ("maximum", 128)


def test_default_preset_is_the_default():
    default = NetworkConfig.preset("default")
    assert default == NetworkConfig()
    assert (default.encoder_poolings, default.encoder_head, default.input_scaling) == (6, "mean", "noise")


def test_unknown_preset_lists_the_known():
    with pytest.raises(ValueError, match=r"'wide'.*default.*paper"):
        NetworkConfig.preset("wide")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"normalisation": "layer"}, r"normalisation.*'layer'.*none.*batch"),
        ({"encoder_head": "max"}, r"encoder_head.*mean.*flatten"),
        ({"input_scaling": "log"}, r"input_scaling.*noise.*maximum"),
        ({"encoder_poolings": 4}, r"encoder_poolings is 4.*6.*7"),
        ({"convolutions_per_level": 0}, "convolutions_per_level"),
        ({"latent_dimensions": 0}, "latent_dimensions"),
        ({"combiner_filters": 0}, "combiner_filters"),
        ({"combiner_layers": -1}, "combiner_layers"),
        ({"filters": (16,), "encoder_poolings": 1}, "filters"),
        ({"filters": (16, 0), "encoder_poolings": 1}, "filters"),
        ({"stamp_size": 100}, r"stamp_size is 100.*64"),
        ({"stamp_size": 64, "encoder_poolings": 7}, r"stamp_size is 64.*128"),
        ({"stamp_size": 0}, "stamp_size"),
        ({"input_divisor": 0.0}, "input_divisor"),
    ],
)
def test_settings_that_cannot_work(change, words):
    with pytest.raises(ValueError, match=words):
        NetworkConfig(**change)


@pytest.mark.parametrize("name", PRESETS)
def test_round_trip_through_json(name):
    config = PRESETS[name]
    assert NetworkConfig(**json.loads(json.dumps(config.to_dict()))) == config


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        NetworkConfig().stamp_size = 64


def test_calibration_round_trip_through_json():
    calibration = Calibration(
        latent_scale=0.5,
        galaxy=tuple(0.9 * logit - 0.1 for logit in IDENTITY),
        overlap=tuple(1.1 * logit + 0.2 for logit in IDENTITY),
        correlation_length=2.5,
        operating_points={"pure": OperatingPoint(0.6, 0.4, 7), "balanced": OperatingPoint(0.5, 0.3)},
        error_bars={"area": ErrorBars((3.0,), (1.1, 1.4), (1.9, 2.1), (-0.3, 0.1))},
        blend_error_bars={"flux": ErrorBars((), (1.3,), (2.2,), (0.2,))},
    )
    plain = Calibration()
    changed = [name for name in plain.to_dict() if getattr(plain, name) != getattr(calibration, name)]
    assert changed == list(plain.to_dict())  # nothing that could be lost unnoticed
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration
    assert Calibration.from_dict(json.loads(json.dumps(Calibration().to_dict()))) == Calibration()
