"""Flag bits against the published contract."""

import pytest

from appulse.objects import OBJECT_MEANING, PIXEL_MEANING, ObjectFlag, PixelFlag, describe
from appulse.objects.thresholds import MAX_GALAXIES


def test_bits_are_those_of_the_published_contract():
    assert [flag.value for flag in ObjectFlag] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert [flag.value for flag in PixelFlag] == [1, 2, 4]
    assert ObjectFlag.NESTED == 8 and ObjectFlag.MEASUREMENT_FAILED == 64


def test_the_meaning_of_the_limit_names_it():
    (meaning,) = describe(ObjectFlag.MOST_GALAXIES)
    assert f"into {MAX_GALAXIES} galaxies" in meaning


def test_every_bit_has_its_own_meaning():
    for kind in (ObjectFlag, PixelFlag):
        meanings = describe(kind(sum(kind)))
        assert len(set(meanings)) == len(kind)
    assert len(describe(ObjectFlag(9))) == 2
    assert describe(ObjectFlag(0)) == []


def test_meanings_of_the_two_kinds_stay_apart():
    assert describe(ObjectFlag.LARGER_THAN_STAMP) != describe(PixelFlag.FIRST_PASS)
    with pytest.raises(TypeError, match="int"):
        describe(4)
    assert describe(ObjectFlag.BAD_PIXEL) != describe(PixelFlag.BAD_PIXEL)
    assert list(OBJECT_MEANING) == list(ObjectFlag) and list(PIXEL_MEANING) == list(PixelFlag)
