import pytest

from appulse.words import counted, galaxies_in_words


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 galaxies"), (1, "1 galaxy"), (2, "2 galaxies"), (21, "21 galaxies")]
)
def test_a_number_and_its_noun_agree(number, words):
    assert counted(number, "galaxy", "galaxies") == words


def test_a_plural_is_the_noun_with_an_s_unless_it_is_given():
    assert (counted(1, "field"), counted(3, "field")) == ("1 field", "3 fields")


def test_galaxies_and_blends_of_an_image_in_words():
    summary = {"galaxies": 44, "galaxies_in_blends": 2, "blends": 1, "warnings": []}
    assert galaxies_in_words(summary) == "44 galaxies, 2 of them in 1 blend"
