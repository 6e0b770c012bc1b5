"""What a process loads: looked up in `sys.modules` of a fresh one."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "lightning", "dask", "distributed", "galsim")
REPORT = f"; import sys; print('loaded:', *[m for m in {HEAVY} if m in sys.modules])"


def loaded(code):
    done = subprocess.run([sys.executable, "-c", code + REPORT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


HELP = "import appulse.cli, contextlib\nwith contextlib.suppress(SystemExit): appulse.cli.main({})\n0"


@pytest.mark.parametrize(
    "code",
    [
        "import appulse; appulse.__version__",
        "import appulse.cli, appulse.files, appulse.products, appulse.objects",
        HELP.format(["--help"]),
        HELP.format(["segment", "--help"]),
        HELP.format(["--version"]),
        HELP.format(["models"]),
        HELP.format(["models", "euclid"]),
    ],
    ids=["package", "light-rooms", "help", "verb-help", "version", "models", "card"],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(code):
    assert loaded(code).splitlines()[-1].split() == ["loaded:"]


def test_training_needs_neither_a_cluster_nor_other_detectors():
    code = "import sys, appulse.training.run; assert not {'sep', 'dask', 'zarr'} & set(sys.modules)"
    assert loaded(code).splitlines()[-1].split() == ["loaded:", "torch", "lightning"]


def test_the_public_names_are_there_when_asked_for():
    code = "import appulse; assert all(getattr(appulse, name) for name in appulse.__all__)"
    assert loaded(code).splitlines()[-1].split() == ["loaded:", "torch"]


def test_other_names_are_refused():
    import appulse

    with pytest.raises(AttributeError, match="no attribute 'andromeda'"):
        _ = appulse.andromeda
