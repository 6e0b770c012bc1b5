"""The catalogue against the published contract, and summaries against closed forms."""

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from scipy import stats

from appulse.objects import COLUMNS, MEASURED, build_catalog, summarise

CONTRACT = (
    "label blend_id ra dec x_centroid y_centroid bbox_xmin bbox_xmax bbox_ymin bbox_ymax "
    "area area_std area_p16 area_p84 flux flux_std flux_p16 flux_p84 "
    "half_light_radius half_light_radius_std half_light_radius_p16 half_light_radius_p84 "
    "ellipticity ellipticity_std ellipticity_p16 ellipticity_p84 "
    "orientation orientation_std orientation_p16 orientation_p84 "
    "flux_noise p_detect p_blend overlap_area n_realisations flags"
).split()


def row(label, **values):
    return {"label": label, "flux": 10.0, "flux_std": 1.0, "half_light_radius": 3.0, "flags": 8, **values}


def test_columns_are_those_of_the_contract_in_order():
    assert build_catalog([row(1)]).colnames == CONTRACT
    assert [column.name for column in COLUMNS] == CONTRACT
    assert all(f"{name}_p84" in CONTRACT for name in MEASURED)


def test_empty_catalogue_has_every_column_and_unit():
    empty = build_catalog([], flux_unit="nJy", pixel_scale_arcsec=0.1)
    full = build_catalog([row(1)], flux_unit="nJy", pixel_scale_arcsec=0.1)
    assert len(empty) == 0
    for name in full.colnames:
        assert empty[name].unit == full[name].unit
        assert empty[name].dtype == full[name].dtype


def test_units_follow_the_image():
    table = build_catalog([row(1), row(2, half_light_radius=5.0)], flux_unit=u.nJy, pixel_scale_arcsec=0.2)
    assert table["flux"].unit == table["flux_p16"].unit == table["flux_noise"].unit == u.nJy
    np.testing.assert_allclose(table["half_light_radius"].to_value(u.arcsec), [0.6, 1.0])
    assert table["orientation"].unit == table["ra"].unit == u.deg
    plain = build_catalog([row(1)])
    assert plain["half_light_radius"].unit == u.pix
    assert plain["flux"].unit == u.dimensionless_unscaled
    assert plain["half_light_radius"][0] == 3 * u.pix


def test_rows_and_columns_give_the_same_table():
    from_rows = build_catalog([row(1), row(7, flags=0)])
    from_columns = build_catalog(
        {"label": [1, 7], "flux": [10, 10], "flux_std": [1, 1], "half_light_radius": [3, 3], "flags": [8, 0]}
    )
    for name in CONTRACT:
        np.testing.assert_array_equal(from_rows[name], from_columns[name])


def test_what_a_row_leaves_out_is_nan_or_zero():
    table = build_catalog([row(1), row(2, ra=150.0)])
    assert np.isnan(table["ra"][0]) and table["ra"][1] == 150 * u.deg
    assert table["n_realisations"].tolist() == [0, 0]


def test_survives_fits_and_ecsv(tmp_path):
    table = build_catalog([row(1), row(2)], flux_unit="nJy", pixel_scale_arcsec=0.1)
    for name in ("catalog.fits", "catalog.ecsv"):
        table.write(tmp_path / name)
        back = QTable.read(tmp_path / name)
        assert back.colnames == CONTRACT
        assert back["flux"].unit == u.nJy
        np.testing.assert_array_equal(back["flux"].value, table["flux"].value)


def test_unknown_and_ragged_columns_are_refused():
    with pytest.raises(ValueError, match="fluxx"):
        build_catalog([{"fluxx": 1}])
    with pytest.raises(ValueError, match="length"):
        build_catalog({"label": [1, 2], "flux": [1.0]})


def test_summary_of_a_normal_ensemble():
    values = stats.norm(20, 3).ppf((np.arange(100_000) + 0.5) / 100_000)
    summary = summarise(values, value=20.0)
    assert summary.value == 20.0
    assert summary.std == pytest.approx(3, rel=1e-3)
    assert (summary.p16, summary.p84) == pytest.approx((20 - 2.983, 20 + 2.983), rel=1e-3)


def test_scale_stretches_about_the_middle_of_the_interval():
    values = np.random.default_rng(5).gamma(2.0, size=400)
    low, high = np.percentile(values, [16, 84])
    doubled = summarise(values, scale=2.0, value=7.0)
    assert doubled.std == pytest.approx(2 * values.std())
    assert doubled.p84 - doubled.p16 == pytest.approx(2 * (high - low))
    assert doubled.p84 + doubled.p16 == pytest.approx(high + low)
    assert doubled.value == 7.0


def test_shift_moves_the_interval_alone_by_half_widths_of_the_ensemble():
    values = np.random.default_rng(6).gamma(2.0, size=400)
    low, high = np.percentile(values, [16, 84])
    plain, moved = (summarise(values, value=2.0, scale=3.0, shift=shift) for shift in (0.0, -0.4))
    assert (moved.value, moved.std) == (plain.value, plain.std)
    by = -0.4 * 0.5 * (high - low)
    assert (moved.p16, moved.p84) == pytest.approx((plain.p16 + by, plain.p84 + by))


def test_absent_realisations_do_not_count():
    assert summarise([1.0, np.nan, 3.0], value=1.0).std == 1.0
    nothing = summarise([np.nan, np.nan], value=4.0)
    assert nothing.value == 4.0 and np.isnan([nothing.std, nothing.p16, nothing.p84]).all()


@pytest.mark.parametrize("turn", [0.0, 45.0, 88.0, 91.0, 179.5])
def test_orientation_spread_does_not_depend_on_the_axes(turn):
    offsets = np.random.default_rng(16).normal(0, 8, size=400)
    plain = summarise(90 + offsets, value=90.0, period=180)
    turned = summarise((90 + offsets + turn) % 180, value=(90 + turn) % 180, period=180)
    assert turned.std == pytest.approx(plain.std)
    assert turned.p84 - turned.value == pytest.approx(plain.p84 - 90)
    assert turned.p16 - turned.value == pytest.approx(plain.p16 - 90)


def test_an_orientation_without_a_value_is_the_mean_one_across_the_wrap():
    summary = summarise([178.0, 179.0, 1.0, 2.0], value=np.nan, period=180)
    assert min(summary.value, 180 - summary.value) == pytest.approx(0, abs=1e-9)
    assert summary.std == pytest.approx(np.std([-2, -1, 1, 2]))


def test_an_angle_of_which_nothing_is_known_fills_the_circle_and_no_more():
    values = np.random.default_rng(5).uniform(0.0, 180.0, 4000)
    even = summarise(values, value=90.0, period=180.0)
    assert even.std == pytest.approx(180 / np.sqrt(12), rel=0.03)
    assert even.p84 - even.p16 == pytest.approx(0.68 * 180, rel=0.03)
    scaled = summarise(values, value=90.0, scale=2.0, period=180.0)
    assert scaled.std == pytest.approx(180 / np.sqrt(12))
    assert scaled.p84 - scaled.p16 == pytest.approx(0.68 * 180)
    assert 0.5 * (scaled.p16 + scaled.p84) == pytest.approx(0.5 * (even.p16 + even.p84))
