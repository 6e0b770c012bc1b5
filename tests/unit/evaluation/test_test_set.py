"""The paper's test set: what is scored, what is not, and that stamps are scored as fields are."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from astropy.io import fits

from appulse.baselines import SepDetector
from appulse.evaluation import Detection, Kind, detection_from_ternary, jobs
from appulse.evaluation import test_set as module
from appulse.evaluation.evidence import gather
from appulse.evaluation.jobs import StampJob
from appulse.evaluation.scoring import Scoring
from appulse.evaluation.test_set import GAP, Mosaic, segment_stamps, stamp_evidence, unseen_test_set
from appulse.files import InputError, UsageError
from appulse.objects import label_objects
from appulse.segmentation import segment
from appulse.sky import write_field
from appulse.sky.population import Pairs
from appulse.sky.stored_field import field_name
from appulse.sky.true_objects import true_galaxy_masks
from appulse.stamps import build_test_set, read_test_set
from appulse.stamps.test_set import write_test_set
from by_hand import SAMPLES, SIZE, SURVEY, by_hand, field_of_discs, thresholding_model


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Three lone discs and a pair, each in the middle of a stamp."""
    folder = tmp_path_factory.mktemp("discs")
    field = field_of_discs()
    catalog = field.catalog.copy()
    for name in ("flux", "half_light_radius", "orientation"):  # of which the file keeps the units
        catalog[name] = 1.0
    write_field(replace(field, catalog=catalog), folder / field_name(9001, 0))
    build_test_set(folder / "set.fits", folder, isolated=3, blended=1, size=SIZE)
    return folder / "set.fits"


@pytest.fixture(scope="module")
def stamps(path):
    return read_test_set(path)


@dataclass(frozen=True)
class Oracle:
    """Knows the truth of the stamps, and spoils it."""

    truth: Mosaic
    name: str = "oracle"
    setting: float = np.nan
    joins: bool = False
    breaks: bool = False
    invents: bool = False

    def detect(self, image):
        known = self.truth.truth
        objects, masks = (
            known.labels.copy(),
            true_galaxy_masks(self.truth.classes, self.truth.id1, self.truth.id2)[1],
        )
        if self.breaks:  # every object into three, with a free row between one and the next
            for label in self.truth.targets:
                rows = np.flatnonzero((objects == label).any(axis=1))
                for row in np.quantile(rows, [1 / 3, 2 / 3]).astype(int):
                    objects[row][objects[row] == label] = 0
            objects = label_objects(objects)[0]
        if self.invents:  # in every stamp's corner
            for y, x in self.truth.corners:
                objects[y : y + 5, x : x + 5] = 1
            objects = label_objects(objects)[0]
        if self.breaks or self.invents:
            return replace(detection_from_ternary((objects > 0).astype(np.uint8)), masks=tuple(masks))
        several = np.ones_like(known.n_galaxies) if self.joins else known.n_galaxies
        return Detection(objects, several, several > 1, tuple(masks))

    def variants(self):
        return {}


def counts_of(stamps, **spoiled):
    detector = Oracle(Mosaic.of(stamps), **spoiled)
    return stamp_evidence(stamps, by_hand(), [detector], samples=SAMPLES)


def test_stamps_side_by_side_hold_what_they_held(stamps):
    mosaic = Mosaic.of(stamps)
    assert mosaic.image.shape == (2 * SIZE + 3 * GAP,) * 2
    outside = np.ones(mosaic.image.shape, bool)
    for place, (y, x) in enumerate(mosaic.corners):
        window = slice(y, y + SIZE), slice(x, x + SIZE)
        outside[window] = False
        np.testing.assert_array_equal(mosaic.image[window], stamps.images[place])
        np.testing.assert_array_equal(mosaic.classes[window], stamps.ternary[place])
    assert 0.9 < mosaic.image[outside].std() < 1.1 and not mosaic.classes[outside].any()
    # Four galaxies of different stamps stay different galaxies, and only central objects count.
    assert mosaic.truth.kind[mosaic.targets].tolist() == list(stamps.objects["kind"])
    assert mosaic.truth.area[mosaic.targets].tolist() == list(stamps.objects["area"])
    assert np.flatnonzero(~mosaic.truth.ignored[1:]).size == len(stamps)


def test_the_truth_scores_one(stamps):
    evidence = counts_of(stamps)
    counts = evidence.counts["oracle"]
    for kind, number in ((Kind.ISOLATED, 3), (Kind.BLENDED, 1)):
        assert counts.n_true(kind) == counts.n_predicted(kind) == number
        assert counts.completeness(kind).value == counts.purity(kind).value == 1
    assert list(evidence.galaxies["iou_oracle"]) == [1.0] * 5
    assert list(evidence.objects["iou_oracle"]) == [1.0] * 4
    assert list(evidence.objects["stamp"][np.argsort(evidence.objects["stamp"])]) == [0, 1, 2, 3]
    assert sorted(evidence.galaxies["stamp"]) == [0, 1, 2, 3, 3]


def test_one_that_joins_all_blends(stamps):
    counts = counts_of(stamps, joins=True).counts["oracle"]
    # Three of the four objects that it calls isolated are, and no blend is recognised.
    assert counts.purity(Kind.ISOLATED).value == 3 / 4
    assert counts.completeness(Kind.ISOLATED).value == 1
    assert counts.completeness(Kind.BLENDED).value == 0
    assert counts.unrecognised_blend_rate().value == 1


def test_parts_of_an_object_are_false_and_what_lies_elsewhere_is_nobodys_business(stamps):
    counts = counts_of(stamps, breaks=True).counts["oracle"]
    # No part reaches an IoU of 0.5: four objects missed, twelve predictions that match nothing.
    assert counts.table[:, Kind.NONE].tolist() == [0, 3, 0, 1]
    assert counts.table[Kind.NONE].tolist() == [0, 12, 0, 0]
    invented = counts_of(stamps, invents=True).counts["oracle"]
    assert invented.table[Kind.NONE].tolist() == [0, 0, 0, 0]
    assert invented.n_predicted(Kind.ISOLATED) == 4


def test_stamps_score_as_their_field_does(stamps):
    field, model = field_of_discs(), by_hand()
    result = segment(
        field.image, model=model, samples=SAMPLES, seed=field.seed, rms=1.0, subtract_background=False
    )
    point = model.operating_point("balanced")
    whole = gather(field, result, point, [SepDetector()], name=model.name)
    apart = stamp_evidence(stamps, model, [SepDetector()], samples=SAMPLES, seed=field.seed)
    np.testing.assert_array_equal(apart.counts[model.name].table, whole.counts[model.name].table)
    np.testing.assert_array_equal(apart.counts["SEP"].table, whole.counts["SEP"].table)
    assert apart.counts[model.name].completeness(Kind.BLENDED).value == 1
    # The same galaxies, found by their magnitude, with the same masks but for a few pixels of their rims.
    for column, tolerance in (("iou_by hand", 0.03), ("iou_SEP", 0.03), ("variance", 0.02)):
        there, here = (
            dict(zip(e.galaxies["magnitude"], e.galaxies[column], strict=True)) for e in (whole, apart)
        )
        assert there.keys() == here.keys()
        assert all(abs(there[key] - here[key]) <= tolerance for key in there), column
    at = model.name, float(point.t_overlap)
    np.testing.assert_array_equal(apart.curves[at].table, whole.curves[at].table)


def test_the_network_sees_each_stamp_as_it_is(path, stamps):
    mosaic, result = segment_stamps(stamps, by_hand(), samples=SAMPLES)
    np.testing.assert_array_equal(result.image, mosaic.image)
    for place, (y, x) in enumerate(mosaic.corners):
        alone = replace(
            stamps,
            **{
                name: getattr(stamps, name)[place : place + 1] for name in ("images", "ternary", "id1", "id2")
            },
            objects=stamps.objects[place : place + 1],
            galaxies=stamps.galaxies[stamps.galaxies["stamp"] == place],
        )
        alone.galaxies["stamp"] = 0
        _, single = segment_stamps(alone, by_hand(), samples=SAMPLES)
        for name in ("p_galaxy", "p_overlap", "mean", "std", "ternary"):
            np.testing.assert_array_equal(
                getattr(result, name)[y : y + SIZE, x : x + SIZE],
                getattr(single, name)[GAP : GAP + SIZE, GAP : GAP + SIZE],
            )


def test_parts_change_nothing_and_are_not_done_twice(path, tmp_path, monkeypatch):
    model = by_hand()
    whole = unseen_test_set(path, model)
    assert whole.seed == 9001 and whole.parts() == [(0, 1, 2, 3)]
    monkeypatch.setattr(module, "PART", 3)
    job = StampJob(model, (), Scoring(samples=SAMPLES), tmp_path, whole)
    first, second = (job(part) for part in whole.parts())
    together = stamp_evidence(read_test_set(path), model, samples=SAMPLES, seed=whole.seed)
    pooled = first + second
    np.testing.assert_array_equal(pooled.counts[model.name].table, together.counts[model.name].table)
    for name in ("objects", "galaxies"):
        ours, theirs = getattr(pooled, name), getattr(together, name)
        for table in (ours, theirs):
            table.sort(["stamp", table.colnames[1]])
        assert ours.colnames == theirs.colnames
        for column in ours.colnames:
            np.testing.assert_array_equal(np.asarray(ours[column]), np.asarray(theirs[column]), column)
    monkeypatch.setattr(jobs, "stamp_evidence", lambda *_, **__: pytest.fail("gathered twice"))
    again = job(whole.parts()[1])
    np.testing.assert_array_equal(again.counts[model.name].table, second.counts[model.name].table)
    assert list(again.galaxies["stamp"]) == [3, 3]


def test_a_part_of_a_test_set_has_both_kinds(path):
    model = by_hand()
    assert unseen_test_set(path, model, stamps=2).places.tolist() == [0, 3]
    assert unseen_test_set(path, model, stamps=9).places.tolist() == [0, 1, 2, 3]


def test_refusals(path, stamps, tmp_path):
    seen = thresholding_model()
    seen.training.update(calibration_seeds=[9001])
    with pytest.raises(UsageError, match="seed 9001"):
        unseen_test_set(path, seen)
    assert len(unseen_test_set(path, seen, allow_training_seeds=True).places) == 4
    with pytest.raises(InputError, match=r"no such file.*build_test_set"):
        unseen_test_set(tmp_path / "none.fits", by_hand())
    injected = replace(stamps, survey=replace(SURVEY, pairs=Pairs(share=0.1)))
    write_test_set(injected, tmp_path / "injected.fits")
    with pytest.raises(UsageError, match="injected pairs"):
        unseen_test_set(tmp_path / "injected.fits", by_hand())
    fits.writeto(tmp_path / "other.fits", np.zeros((4, 4)))
    with pytest.raises(InputError, match="not a test set"):
        unseen_test_set(tmp_path / "other.fits", by_hand())
    build_test_set(tmp_path / "small.fits", path.parent, isolated=1, blended=0, size=48)
    with pytest.raises(InputError, match=r"48 pixels wide.*size=64"):
        unseen_test_set(tmp_path / "small.fits", by_hand())
