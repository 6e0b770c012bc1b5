"""The paper's test set, scored: each stamp is one centred pass of the network; its central object counts.

Stamps are laid side by side with empty sky between them. From the network's pass on, such a mosaic is an
image like any other: the engine parts and separates its objects, and other detectors read it in one go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.table import Table

from appulse.engine.assembly import Assembly
from appulse.engine.job import Job
from appulse.engine.observation import observe
from appulse.engine.settings import Settings
from appulse.engine.stages import keep_first_pass, run
from appulse.evaluation.detector import Detector
from appulse.evaluation.evidence import Evidence, claim, threshold_curves
from appulse.evaluation.fields import refuse_biased, refuse_seen_seeds
from appulse.evaluation.scores import count_objects
from appulse.evaluation.truth_tables import TrueGalaxies, galaxy_table, object_table
from appulse.files import InputError
from appulse.inference.realisations import Realisations
from appulse.inference.sampler import Sampler
from appulse.inference.store import MemoryStore
from appulse.inference.two_step import FieldMaps
from appulse.network.calibration import OperatingPoint
from appulse.network.weights import Model
from appulse.objects.components import label_connected, label_objects
from appulse.progress import Progress
from appulse.result import Result
from appulse.sky.field import galaxies_of
from appulse.sky.survey import Survey
from appulse.sky.true_objects import TrueObjects, true_objects
from appulse.stamps import ObjectStamps, list_test_set, read_test_set

# Empty sky around every stamp, pixels: wider than what a galaxy's surroundings are looked at for.
GAP = 16
# Stamps in one mosaic: the unit of memory (half a GB) and of what a stopped run has to do again.
PART = 256
# Galaxies are numbered up to 255 in each stamp.
_PER_STAMP = 256


@dataclass(frozen=True)
class TestSet:
    """A test set on disk.

    Parameters
    ----------
    path : Path
    places : (n,) int array
        The stamps to score.
    survey : Survey
    seeds : tuple of int
        Of its fields, ascending.
    """

    path: Path
    places: np.ndarray
    survey: Survey
    seeds: tuple[int, ...]

    @property
    def seed(self) -> int:
        """Of the realisations."""
        return self.seeds[0]

    def parts(self) -> list[tuple[int, ...]]:
        """The stamps of each mosaic."""
        starts = range(0, len(self.places), PART)
        return [tuple(self.places[start : start + PART].tolist()) for start in starts]


def unseen_test_set(
    path: str | Path, model: Model, *, stamps: int | None = None, allow_training_seeds: bool = False
) -> TestSet:
    """A test set, refused before its pixels are read where the model has seen its fields.

    Parameters
    ----------
    path : str or Path
        FITS file of `appulse.stamps.build_test_set`.
    model : Model
        To be scored.
    stamps : int, optional
        So many of them, evenly taken; by default all.
    allow_training_seeds : bool
        Whether fields that the model has seen may be scored.

    Returns
    -------
    TestSet

    Raises
    ------
    InputError
        No such file, another kind of file, or stamps of another width than the model's.
    UsageError
        The model was trained on its fields, or they have injected pairs.
    """
    if not Path(path).is_file():
        raise InputError(
            f"{path}: no such file. From simulated fields (seeds 9000s), Python makes one: "
            f"from appulse.stamps import build_test_set; build_test_set({str(path)!r}, FIELDS)."
        )
    objects, survey = list_test_set(path)
    if not allow_training_seeds:
        refuse_seen_seeds(model, map(int, objects["seed"]))
    refuse_biased(survey, Path(path))
    width, wanted = read_test_set(path, [0]).images.shape[1], model.network.config.stamp_size
    if width != wanted:
        raise InputError(
            f"{path}: its stamps are {width} pixels wide, those of model {model.name!r} {wanted}; "
            f"build the test set with size={wanted}."
        )
    number = len(objects) if stamps is None else min(stamps, len(objects))
    places = np.unique(np.linspace(0, len(objects) - 1, number).astype(int))
    return TestSet(Path(path), places, survey, tuple(sorted({int(seed) for seed in objects["seed"]})))


@dataclass(frozen=True)
class Mosaic:
    """Stamps side by side as one image with its truth; a `appulse.evaluation.truth_tables.TrueSky`.

    Parameters
    ----------
    image : (height, width) float32 array, units of the noise
        Between the stamps is noise alone.
    classes : (height, width) uint8 array
        True class map.
    id1, id2 : (height, width) int32 array
        Brightest and second-brightest galaxy of each pixel; 0 none.
    corners : list of (y0, x0)
        First pixel of each stamp.
    truth : TrueObjects
        Only the stamps' central objects count.
    targets : (n,) int array
        Their labels.
    catalog : Table
        Their galaxies; ``x`` and ``y`` count from the stamp's first pixel.
    """

    image: np.ndarray
    classes: np.ndarray
    id1: np.ndarray
    id2: np.ndarray
    corners: list[tuple[int, int]]
    truth: TrueObjects
    targets: np.ndarray
    catalog: Table

    @classmethod
    def of(cls, stamps: ObjectStamps) -> Mosaic:
        """Lay stamps side by side.

        Parameters
        ----------
        stamps : ObjectStamps
        """
        size, columns = stamps.images.shape[1], int(np.ceil(np.sqrt(len(stamps))))
        pitch = size + GAP
        places = [divmod(place, columns) for place in range(len(stamps))]
        corners = [(GAP + row * pitch, GAP + column * pitch) for row, column in places]
        shape = GAP + -(-len(stamps) // columns) * pitch, GAP + columns * pitch
        image = np.random.Generator(np.random.Philox(0)).standard_normal(shape, np.float32)
        classes, (id1, id2) = np.zeros(shape, np.uint8), np.zeros((2, *shape), np.int32)
        pixels = []
        for place, (y, x) in enumerate(corners):
            window = slice(y, y + size), slice(x, x + size)
            image[window], classes[window] = stamps.images[place], stamps.ternary[place]
            for ids, numbers in ((id1, stamps.id1[place]), (id2, stamps.id2[place])):
                ids[window] = np.where(numbers > 0, numbers.astype(np.int32) + _PER_STAMP * place, 0)
            labels, _ = label_connected(stamps.ternary[place] > 0)
            first = np.flatnonzero(labels == stamps.objects["label"][place])[0]
            pixels.append((y + first // size, x + first % size))
        truth = true_objects(classes, id1, id2)
        targets = truth.labels[tuple(np.transpose(pixels))]
        ignored = np.ones(len(truth.ignored), bool)
        ignored[[0, *targets]] = False
        catalog = stamps.galaxies.copy()
        catalog["id"] = catalog["number"] + _PER_STAMP * catalog["stamp"]
        truth = replace(truth, ignored=ignored, only_targets=True)
        return cls(image, classes, id1, id2, corners, truth, targets, catalog)

    def ternary(self) -> np.ndarray:
        """True class map, (height, width) uint8 array."""
        return self.classes

    def galaxies(self, identities: np.ndarray) -> Table:
        """Rows of the catalogue.

        Parameters
        ----------
        identities : (n,) int array
            Of galaxies of central objects.
        """
        return galaxies_of(self.catalog, identities)


def segment_stamps(
    stamps: ObjectStamps,
    model: Model,
    *,
    samples: int = 50,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Mosaic, Result]:
    """Segment stamps as the paper does, each in one pass, and find their galaxies as `appulse.segment` does.

    Parameters
    ----------
    stamps : ObjectStamps
        As wide as the model's own.
    model : Model
    samples : int
        Realisations.
    seed : int
        Of the realisations, which depend on where a stamp was cut and not on its place here.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    Mosaic
    Result
        Of the mosaic.
    """
    mosaic = Mosaic.of(stamps)
    with observe(mosaic.image, None, {"rms": 1.0}) as opened:
        observation = opened.read()
    shape = mosaic.image.shape
    settings = Settings(
        samples=samples, seed=seed, method="grid", subtract_background=False, block=max(shape)
    )
    job = Job.of(observation, settings.sampler(model), settings, MemoryStore(shape, samples))
    maps = _one_pass_each(stamps, mosaic, job.sampler, progress)
    _clean(maps, mosaic, job.point)
    keep_first_pass(job, 0, maps)
    run(job, progress=progress)
    return mosaic, Assembly.of(job, observation).in_memory({}, ())


def _one_pass_each(
    stamps: ObjectStamps, mosaic: Mosaic, sampler: Sampler, progress: Progress | None
) -> FieldMaps:
    shape, size = mosaic.image.shape, sampler.size
    p_galaxy, p_overlap = np.zeros((2, *shape), np.float32)
    realisations = Realisations(sampler.samples, shape)
    origins = [(int(row["y"]), int(row["x"])) for row in stamps.objects]
    for done, drawn in enumerate(sampler.draw_stamps(stamps.images, origins), start=1):
        y, x = mosaic.corners[done - 1]
        window = slice(y, y + size), slice(x, x + size)
        p_galaxy[window], p_overlap[window] = drawn.p_galaxy, drawn.p_overlap
        realisations.put(window, drawn.classes)
        if progress:
            progress("first pass", done, len(origins))
    return FieldMaps(p_galaxy, p_overlap, realisations, np.zeros(shape, bool))


def _clean(maps: FieldMaps, mosaic: Mosaic, point: OperatingPoint) -> None:
    """Leave only what meets a central object: the paper keeps no more, and the rest would take longer."""
    labels, _ = label_objects(maps.ternary(point))
    counted = ~mosaic.truth.ignored[mosaic.truth.labels] & (mosaic.truth.labels > 0)
    dropped = (labels > 0) & ~np.isin(labels, np.unique(labels[counted]))
    maps.p_galaxy[dropped] = maps.p_overlap[dropped] = 0
    maps.realisations.planes[:, :, dropped] = 0


def stamp_evidence(
    stamps: ObjectStamps,
    model: Model,
    detectors: Sequence[Detector] = (),
    *,
    samples: int = 50,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evidence:
    """Compare what a model and other detectors make of stamps with the truth of their central objects.

    Parameters
    ----------
    stamps : ObjectStamps
    model : Model
        To score.
    detectors : sequence of Detector
        To stand beside it; they see all stamps in one image.
    samples, seed, progress
        As for `segment_stamps`.

    Returns
    -------
    Evidence
        Counts, curves, and the tables of objects and galaxies, with ``stamp`` in place of a position.
    """
    mosaic, result = segment_stamps(stamps, model, samples=samples, seed=seed, progress=progress)
    truth, point = mosaic.truth, model.operating_point("balanced")
    detections = {model.name: claim(result, point)}
    detections |= {each.name: each.detect(result.image) for each in detectors}
    galaxies = _of_targets(TrueGalaxies.of(mosaic, truth), truth)
    objects = object_table(mosaic, truth, galaxies, detections, result.std)
    stamp_of = np.zeros(len(truth.ignored), np.int64)
    stamp_of[mosaic.targets] = np.arange(len(stamps))
    objects.replace_column("label", stamp_of[objects["label"]])
    objects.rename_column("label", "stamp")
    objects.remove_columns(["x", "y"])
    members = galaxy_table(mosaic, truth, galaxies, detections, result.std, result.p_galaxy)
    members.add_column(members["id"] // _PER_STAMP, name="stamp", index=0)
    members["id"] %= _PER_STAMP
    members.remove_column("object")  # the stamp's own
    members.rename_column("id", "number")
    return Evidence(
        counts={name: count_objects(truth, found) for name, found in detections.items()},
        galaxies=members,
        objects=objects,
        curves=threshold_curves(truth, result, point, detectors, model.name),
    )


def _of_targets(galaxies: TrueGalaxies, truth: TrueObjects) -> TrueGalaxies:
    kept = np.flatnonzero(~truth.ignored[galaxies.objects])
    masks = tuple(galaxies.masks[k] for k in kept)
    return TrueGalaxies(galaxies.ids[kept], masks, galaxies.objects[kept], galaxies.counted[kept])
