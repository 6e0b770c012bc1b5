"""Random streams: as they have been since the first field, and no two the same."""

import pytest

from appulse.streams import (
    LARGEST_FIELD_SEED,
    OfField,
    OfSky,
    OfStamps,
    clump_stream,
    device_seed,
    field_stream,
    latent_seed,
    oracle_stream,
    sky_stream,
    stamp_stream,
)

# First 64 bits of each, as drawn when every room still made keys of its own.
FIELD = {
    OfField.GALAXIES: 0x4CBE0A077642C21A,
    OfField.NOISE: 0xD6432A359B567C6A,
    OfField.BULGES: 0x1AE0AB0636224731,
    OfField.FAINT: 0x851A4021F1782263,
    OfField.STARS: 0xEBCCD3FE00E2236B,
    OfField.PAIRS: 0x73D3705332A1CA8B,
    OfField.REAL: 0x6C17D59B15477FA,
    OfField.RANGES: 0x7DEE59A0AD403AC3,
    OfField.CLUMPS: 0xA2C5336D07E895CF,
}
STAMPS = {
    OfStamps.ORDER: 0xAE14182355337C9F,
    OfStamps.BATCH: 0x6DC46FEB897ED89F,
    OfStamps.DEVICE: 0x84ECDAEDA3B73852,
    OfStamps.CORNERS: 0x3907921B2C5695A0,
    OfStamps.TEST_SET: 0xFA3B145FAA6786C,
}
SKY = {
    OfSky.EMPTY: 0x67978BFDA2D5B159,
    OfSky.COPULA: 0xD6A851A951D6365C,
    OfSky.LATENT: 0x255B85A0F42F37DA,
    OfSky.SMOOTH_LATENT: 0x3A35B901AA551EEA,
}


def first(stream):
    return int(stream.bit_generator.random_raw())


def test_every_stream_begins_as_it_always_has():
    assert {purpose: first(field_stream(9000, 3, purpose, 5)) for purpose in OfField} == FIELD
    assert {purpose: first(stamp_stream(7, purpose, 11, 2)) for purpose in OfStamps} == STAMPS
    assert {purpose: first(sky_stream(7, purpose, 4)) for purpose in OfSky} == SKY
    assert first(oracle_stream(7)) == 0x459DDFC6D221AD0
    assert first(clump_stream(7)) == 0x307F5978FD42A83D
    assert device_seed(7, 11) == 5344984830257962255
    assert latent_seed(7, 11, 2) == 2387393988560103756


def test_no_field_takes_the_place_of_another_room():
    assert first(field_stream(LARGEST_FIELD_SEED, 0, OfField.GALAXIES))
    for seed in (-1, LARGEST_FIELD_SEED + 1):
        with pytest.raises(ValueError, match="that of a field must be from 0"):
            field_stream(seed, 0, OfField.GALAXIES)


def test_so_does_one_whose_key_is_short_or_long():
    assert first(field_stream(9000, 3, OfField.GALAXIES)) == 0xE13D11064D9F7655
    assert first(stamp_stream(7, OfStamps.TEST_SET)) == 0xE1A039CC07B64F82
    assert first(sky_stream(7, OfSky.EMPTY)) == 0x973F7651027DD4B4
    origin = ((1 << 30) - 9, (1 << 30) + 17)
    assert first(sky_stream(7, OfSky.LATENT, *origin)) == 0xF67675E6EC5A7131


@pytest.mark.parametrize("seed", [0, 1, 9000])
def test_no_two_keys_are_the_same_to_numpy(seed):
    """Zeros behind a key of less than four words do not count: of what may meet, most are zeros."""
    of_parts = {OfField.BULGES, OfField.REAL, OfField.CLUMPS}
    streams = [
        *(field_stream(seed, 0, purpose) for purpose in set(OfField) - of_parts),
        *(field_stream(seed, 0, OfField.NOISE, band) for band in (1, 2)),
        *(field_stream(seed, 0, of, part) for of in of_parts for part in OfField),
        *(stamp_stream(seed, purpose) for purpose in OfStamps),
        *(stamp_stream(seed, OfStamps.ORDER, epoch) for epoch in (1, 2)),
        *(sky_stream(seed, purpose) for purpose in OfSky),
        *(sky_stream(seed, of, sample) for of in (OfSky.COPULA, OfSky.SMOOTH_LATENT) for sample in (1, 2)),
        oracle_stream(seed),
        *(clump_stream(number) for number in (0, 1, seed + 2)),
    ]
    keys = [stream.bit_generator.seed_seq.entropy for stream in streams]
    padded = {(*map(int, key), *[0] * (4 - len(key))) for key in keys}
    assert len(padded) == len(keys)
    seeds = [device_seed(seed, number) for number in range(3)]
    seeds += [latent_seed(seed, batch, rank) for batch in range(3) for rank in range(2)]
    assert len(set(seeds)) == len(seeds)
