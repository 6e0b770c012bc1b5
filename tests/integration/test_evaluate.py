"""``appulse evaluate`` end to end on a small simulated sky, and the page that comes out of it."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from astropy.table import Table

from appulse.baselines import SepDetector
from appulse.evaluation import jobs
from appulse.evaluation.report import MISSING, plain
from appulse.evaluation.run import Effort, evaluate_model
from appulse.evaluation.scoring import Scoring, evidence_of
from appulse.files import InputError, UsageError
from appulse.sky.simulate import simulate_fields
from appulse.stamps import build_test_set
from by_hand import SIZE, by_hand, thresholding_model

TINY = Effort(320, 1, part_side=192, scoring=Scoring(samples=8, noise_side=256, noise_fields=2))
TWO_FIELDS = Effort(200, None, part_side=128, scoring=Scoring(samples=4, noise_side=64, noise_fields=1))
FIGURES = ("figure1", "figure2", "figure3", "figure5", "tradeoff", "reliability", "coverage", "ranks")
FIGURES += ("test_set_figure2", "test_set_blends", "test_set_tradeoff")


class Page(HTMLParser):
    """What a browser would load, link and show."""

    VOID = frozenset({"meta", "img", "br", "hr", "link"})

    def __init__(self, text):
        super().__init__()
        self.open, self.loaded, self.links, self.identities, self.tags = [], [], [], set(), []
        self.tables, self.text = {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.loaded += [
            attributes[name] for name in ("src", "srcset", "data", "poster") if name in attributes
        ]
        if tag == "link":
            self.loaded.append(attributes["href"])
        if tag == "a":
            self.links.append(attributes["href"])
        if "id" in attributes:
            self.identities.add(attributes["id"])
        if tag == "table":
            self.rows = self.tables.setdefault(attributes["id"], [])
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sky")
    for name, seed in (("test", 9000), ("calibration", 2000)):
        simulate_fields(folder / name, "euclid-crowded", size=320, fields=1, seed=seed)
    build_test_set(folder / "set.fits", folder / "test", isolated=2, blended=2, size=SIZE)
    return folder


@pytest.fixture(scope="module")
def output(sky):
    folder = sky / "out"
    stages = []
    evaluate_model(
        folder,
        sky / "test",
        by_hand(),
        [SepDetector()],
        test_set=sky / "set.fits",
        validation=sky / "calibration",
        notes=["SEP & others: <default> parameters."],
        effort=TINY,
        command="appulse evaluate -o out",
        progress=lambda stage, done, total: stages.append((stage, done, total)),
    )
    assert {"first pass", "second pass", "galaxies"} <= {stage for stage, _, _ in stages}
    return folder


@pytest.fixture(scope="module")
def page(output):
    page = Page((output / "report.html").read_text())
    assert not page.open
    return page


def test_everything_promised_is_written(output):
    for name in FIGURES:
        assert (output / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    for name in (
        "table1",
        "figure2",
        "figure3",
        "figure5",
        "tradeoff",
        "reliability",
        "coverage",
        "galaxies",
        "test_set_figure2",
        "test_set_tradeoff",
        "test_set_blends_flux_ratio",
        "test_set_galaxies",
    ):
        assert len(Table.read(output / f"{name}.ecsv"))
    written = json.loads((output / "scores.json").read_text())
    assert written["model"] == "by hand" and written["facts"]["command"] == "appulse evaluate -o out"


def test_the_page_needs_nothing_but_itself(page):
    assert len(page.loaded) >= len(FIGURES)
    assert all(source.startswith("data:image/png;base64,") for source in page.loaded)
    assert all(link.startswith("#") and link[1:] in page.identities for link in page.links)
    assert "script" not in page.tags and "link" not in page.tags
    assert "url(" not in "".join(page.text)


def test_the_page_says_first_who_is_better_and_how_it_was_made(page, output):
    text = "".join(page.text)
    headline = json.loads((output / "scores.json").read_text())["headline"]
    assert headline.startswith("by hand ") and headline in text
    assert text.index(headline) < text.index("Contents")
    for fact in (
        "A quick run",
        "SEP & others: <default> parameters.",
        "appulse evaluate -o out",
        by_hand().sha256,
    ):
        assert fact in text


STAMP_TABLES = ["test_set_table1", "test_set_confusion", "test_set_verdicts"]


@pytest.mark.parametrize("name", ["table1", "coverage", "verdicts", "pixels", "modes", *STAMP_TABLES])
def test_tables_show_the_numbers_of_their_files(page, output, name):
    table = Table.read(output / f"{name}.ecsv")
    if name == "coverage":
        table = table[np.isin(table["group"], ("all", "alone", "overlapping"))]
    heading, *rows = page.tables[name]
    assert len(rows) == len(table)
    for shown, row in zip(rows, table, strict=True):
        cells = dict(zip(heading, shown, strict=True))
        for column in table.colnames:
            text = plain(row[column])
            if not column.endswith(("_low", "_high")):
                assert cells[column.replace("_", " ")].startswith(text)
            elif text != MISSING and plain(row[column.rpartition("_")[0]]) != MISSING:
                assert text in cells[column.rpartition("_")[0].replace("_", " ")]


def test_tables_agree_with_each_other(output):
    table, scores = Table.read(output / "table1.ecsv"), Table.read(output / "comparison.ecsv")
    for row in table:
        chosen = (scores["detector"] == row["detector"]) & (scores["score"] == f"{row['kind']} completeness")
        assert scores["value"][chosen][0] == pytest.approx(row["completeness"], nan_ok=True)
    figure2, galaxies = Table.read(output / "figure2.ecsv"), Table.read(output / "galaxies.ecsv")
    for kind in ("isolated", "blended"):
        chosen = galaxies[galaxies["kind"] == kind]
        bins = figure2[(figure2["detector"] == "SEP") & (figure2["kind"] == kind) & (figure2["n"] > 0)]
        assert bins["n"].sum() == len(chosen)
        assert np.average(bins["mean"], weights=bins["n"]) == pytest.approx(np.mean(chosen["iou_SEP"]))


def test_the_papers_test_set_has_its_chapter_and_its_numbers_go_into_table1(page, output):
    assert "The paper's test set" in "".join(page.text) and "the-paper-s-test-set" in page.identities
    written = json.loads((output / "scores.json").read_text())
    objects, table = (Table.read(output / f"test_set_{name}.ecsv") for name in ("objects", "table1"))
    assert sorted(objects["stamp"]) == list(range(4))
    for name in ("by hand", "SEP"):
        confusion = np.array(written["test_set"]["confusion"][name])
        assert confusion[1].sum() == confusion[3].sum() == 2
        found = (objects["kind"] == "isolated") & (objects[f"outcome_{name}"] == "isolated")
        rows = table[table["detector"] == name]
        assert rows["completeness"][rows["kind"] == "isolated"][0] == pytest.approx(found.sum() / 2)
        purity = rows["purity"][rows["kind"] == "blended"][0]
        table1 = Table.read(output / "table1.ecsv")
        chosen = (table1["detector"] == name) & (table1["kind"] == "blended")
        assert table1["half_and_half_purity"][chosen][0] == pytest.approx(purity, nan_ok=True)
        scores = written["detectors"][name]["half-and-half purity of blends"]
        assert scores[0] == pytest.approx(purity, nan_ok=True)


@pytest.mark.slow
def test_the_same_evaluation_again_gives_the_same_bytes(sky, output):
    again = sky / "again"
    options = {"test_set": sky / "set.fits", "validation": sky / "calibration", "effort": TINY}
    options |= {"notes": ["SEP & others: <default> parameters."]}
    evaluate_model(
        again, sky / "test", by_hand(), [SepDetector()], command="appulse evaluate -o out", **options
    )
    for path in output.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.slow
def test_workers_do_not_change_a_byte(sky):
    simulate_fields(sky / "two", "euclid-crowded", size=200, fields=2, seed=9000)
    for workers in (1, 2):
        options = {"test_set": sky / "set.fits", "effort": TWO_FIELDS, "workers": workers}
        evaluate_model(sky / f"by{workers}", sky / "two", by_hand(), [SepDetector()], **options)
    for path in (sky / "by1").iterdir():
        assert (sky / "by2" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_after_its_last_field(sky, monkeypatch):
    simulate_fields(sky / "three", "euclid-crowded", size=200, fields=2, seed=9000)
    evaluate_model(sky / "whole", sky / "three", by_hand(), [SepDetector()], effort=TWO_FIELDS)
    gathered = []

    def gather_one(model, field, *args, **options):
        gathered.append(field.index)
        if len(gathered) == 2:
            raise KeyboardInterrupt
        return evidence_of(model, field, *args, **options)

    monkeypatch.setattr(jobs, "evidence_of", gather_one)
    with pytest.raises(KeyboardInterrupt):
        evaluate_model(sky / "stopped", sky / "three", by_hand(), [SepDetector()], effort=TWO_FIELDS)
    assert [path.name for path in (sky / "stopped" / "parts").iterdir()] == ["field_9000_00.npz"]
    evaluate_model(sky / "stopped", sky / "three", by_hand(), [SepDetector()], effort=TWO_FIELDS)
    assert gathered == [0, 1, 1]
    names = sorted(path.name for path in (sky / "whole").iterdir())
    assert names == sorted(path.name for path in (sky / "stopped").iterdir()) and "parts" not in names
    for name in names:
        assert (sky / "stopped" / name).read_bytes() == (sky / "whole" / name).read_bytes(), name


def test_seen_fields_and_too_few_realisations_are_refused(sky):
    model = thresholding_model()
    model.training.update(seeds=[9000])
    with pytest.raises(UsageError, match="9000"):
        evaluate_model(sky / "never", sky / "test", model, effort=TINY)
    with pytest.raises(InputError, match="at least 2"):
        evaluate_model(sky / "never", sky / "test", by_hand(), effort=TINY.drawing("grid", 1))
    assert not (sky / "never").exists()
