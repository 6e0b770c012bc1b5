"""Recipes: the presets, and TOML files right and wrong."""

import json

import pytest

from appulse.files import InputError
from appulse.network.config import NetworkConfig
from appulse.stamps import StampConfig
from appulse.training.config import PRESETS, TrainingConfig
from appulse.training.config import TrainingConfig as _TC


@pytest.fixture
def load(tmp_path):
    def of(text):
        path = tmp_path / "recipe.toml"
        path.write_text(text)
        return TrainingConfig.load(path)

    return of


def test_paper_preset():
    paper = TrainingConfig.load("paper")
    # Appendix A: five epochs of 150,000 stamps in batches of 32, 1e-3 to 3e-4, weights 0.9, 0.5, 0.4;
    # no augmentation.
    assert (paper.epochs, paper.stamps_per_epoch, paper.batch_size) == (5, 150_000, 32)
    assert (paper.learning_rate, paper.final_learning_rate) == (1e-3, 3e-4)
    assert paper.class_weights == (0.4, 0.5, 0.9)
    assert paper.cross_entropy_weight == 0 and not paper.dice_squared
    assert paper.network == NetworkConfig.preset("paper")
    assert paper.stamps.size == 128 and paper.stamps.threshold == 1 and paper.stamps.depth_range is None
    assert not paper.stamps.flips
    # Not of the paper: without these two nothing is learnt (docs/experiments.md).
    assert (paper.warmup_steps, paper.stamps.overlap_share) == (300, 0.5)
    assert paper.stamps.background_scatter == paper.stamps.noise_scatter == paper.stamps.blank_share == 0
    assert paper.total_steps == 5 * 4687


def test_default_preset():
    assert TrainingConfig.load("default") == TrainingConfig() == PRESETS["default"]
    assert TrainingConfig().stamps.depth_range == (24.6, 27.2)


def test_mixed_preset_is_what_a_file_can_say(load):
    mixed = TrainingConfig.load("mixed")
    assert mixed.stamps.depth_range is None and mixed.stamps.dimming_range[0] == 0
    as_file = load(
        """
        prior_mean_share = 0.75
        [stamps]
        overlap_share = 0.25
        giant_share = 0.08
        dimming_range = [0.0, 2.4]
        depth_power = 1.0
        noise_correlation = [0.0, 1.2]
        """
    )
    assert as_file == mixed
    assert TrainingConfig.from_dict(json.loads(json.dumps(mixed.to_dict()))) == mixed


def test_a_file_changes_the_preset_it_names(load):
    shorter = load('preset = "paper"\nepochs = 2\n[network]\nlatent_dimensions = 6')
    paper = PRESETS["paper"].to_dict()
    paper["epochs"], paper["network"]["latent_dimensions"] = 2, 6
    assert shorter == TrainingConfig.from_dict(paper)
    # A depth of the file's own takes the place of the preset's dimming.
    assert load('preset = "mixed"\n[stamps]\ndepth_range = [25.0, 26.0]').stamps.dimming_range is None


def test_toml(load):
    config = load(
        """
        epochs = 3
        learning_rate = 5e-4
        class_weights = [0.1, 0.2, 0.7]
        [network]
        filters = [8, 16, 16]
        encoder_poolings = 2
        [stamps]
        overlap_share = 0.25
        depth_range = [25.0, 26.0]
        """
    )
    assert (config.epochs, config.learning_rate, config.class_weights) == (3, 5e-4, (0.1, 0.2, 0.7))
    assert config.network == NetworkConfig(filters=(8, 16, 16), encoder_poolings=2)
    assert config.stamps == StampConfig(overlap_share=0.25, depth_range=(25.0, 26.0))
    assert config.batch_size == TrainingConfig().batch_size


def test_empty_toml_is_the_default_recipe(load):
    config = load("")
    assert (
        config.network == TrainingConfig().network and config.learning_rate == TrainingConfig().learning_rate
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch = 3", "epoch"),
        ("epochs = ", "Invalid value (at end of document)"),
        ("preset = 'papers'", "papers"),
        ("preset = ['paper']", "paper"),
        ("[network]\nfilter = [3]", "filter"),
        ("[network]\nnormalisation = 'layer'", "normalisation"),
        ("[network]\nstamp_size = 100", "stamp_size"),
        ("[stamps]\nflip = true", "flip"),
        ("network = 3", "network is 3; it must be a table"),
        ("stamps = 3", "stamps is 3; it must be a table"),
        ("seed = -1", "seed is -1"),
        ("seed = 1.5", "seed is 1.5"),
        ("average_decay = 1.0", "below 1"),
        ("learning_rate = nan", "learning_rate is nan"),
        ("batch_size = 2\nprior_mean_share = 0.75", "none of a batch of 2"),
        ("[network]\nfilters = 32", "filters is 32; it must be whole numbers"),
        ("[stamps]\nflips = 'no'", "true or false"),
        ("trainable_class_weights = 1", "true or false"),
        ("free_bits = -0.1", "free_bits is -0.1"),
        ("[stamps]\ndepth_range = 26.0", "depth_range is 26.0; it must be two numbers"),
        ("[stamps]\nbackground_range = ['a', 'b']", "two numbers"),
    ],
)
def test_a_mistake_is_named(load, text, words):
    with pytest.raises(InputError) as caught:
        load(text)
    assert words in str(caught.value).split("recipe.toml: ", 1)[1]


@pytest.mark.parametrize(
    "text",
    [
        "epochs = 'five'",
        "epochs = 0",
        "batch_size = 0",
        "stamps_per_epoch = -1",
        "learning_rate = -1e-3",
        "class_weights = [0.5, 0.5]",
        "class_weights = [0, 0, 0]\ncross_entropy_weight = 0",
        "[stamps]\ndepth_range = [26.0]",
        "[stamps]\ndepth_range = [27.0, 25.0]",
        "[stamps]\nsize = '128'",
        "[stamps]\nsize = 64",  # the network's stamps have 128 pixels
    ],
)
def test_values_that_do_not_fit(load, text):
    with pytest.raises(InputError, match=r"recipe\.toml"):
        load(text)


def test_unknown_preset_lists_the_known(tmp_path):
    with pytest.raises(InputError, match=r"'papers'.*default.*paper"):
        TrainingConfig.load("papers")
    with pytest.raises(InputError, match=r"none\.toml"):
        TrainingConfig.load(tmp_path / "none.toml")


@pytest.mark.parametrize("name", PRESETS)
def test_recipe_survives_the_weight_header(name):
    assert _TC.from_dict(json.loads(json.dumps(PRESETS[name].to_dict()))) == PRESETS[name]


def test_steps():
    config = TrainingConfig(epochs=3, stamps_per_epoch=100, batch_size=32)
    assert (config.steps_per_epoch, config.total_steps) == (3, 9)
    assert TrainingConfig(stamps_per_epoch=1).steps_per_epoch == 1
