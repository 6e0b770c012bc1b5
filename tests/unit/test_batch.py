"""Many images in one directory, with a network that has learnt nothing and finds nothing."""

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from astropy.io import fits

from appulse.batch import images as images_of_a_batch
from appulse.batch import run_batch
from appulse.batch.journal import FINGERPRINT, RECORDS, Journal
from appulse.engine.on_disk import claim_folder
from appulse.files import UsageError
from appulse.network import NetworkConfig, ProbabilisticUNet
from appulse.network.weights import Model, save_model
from batches import batch_options

PRODUCTS = ("catalog.fits", "segmentation.fits", "summary.json")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    config = NetworkConfig(filters=(4, 4), stamp_size=32, encoder_poolings=1, combiner_filters=4)
    network = ProbabilisticUNet(config)
    with torch.no_grad():
        network.combiner.rest[-1].weight.zero_()
        network.combiner.rest[-1].bias.copy_(torch.tensor([9.0, 0.0, 0.0]))
    return save_model(Model("blind", network), tmp_path_factory.mktemp("models") / "blind.safetensors")


def image(path, seed=0, scale=1.0):
    fits.writeto(path, (scale * np.random.default_rng(seed).standard_normal((40, 50))).astype(np.float32))
    return path


@pytest.fixture
def images(tmp_path):
    return [image(tmp_path / f"{name}.fits", seed) for seed, name in enumerate("abc")]


@pytest.fixture
def options(tmp_path, weights):
    def choose(**changes):
        values = {"output": tmp_path / "out", "model": str(weights), "samples": 2, "preview": False}
        return batch_options(**values | changes)

    return choose


def products(directory):
    return sorted(path.name for path in directory.iterdir() if path.name not in (FINGERPRINT, RECORDS))


def state(directory):
    """Content and time of every file: tells whether anything was written again."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_every_image_gets_its_products(images, options):
    assert run_batch(images, {}, options()) == 0
    assert products(options().output) == [f"{name}_{each}" for name in "abc" for each in PRODUCTS]


def test_the_same_again_does_nothing(images, options, capsys):
    run_batch(images, {}, options())
    before = state(options().output)
    capsys.readouterr()
    assert run_batch(images, {}, options()) == 0
    assert state(options().output) == before
    assert capsys.readouterr().out.count(": done before\n") == 3


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(images, options, tmp_path, capsys):
    whole = options(output=tmp_path / "whole")
    run_batch(images, {}, whole)
    run_batch(images[:1], {}, options())
    first = state(options().output)
    capsys.readouterr()
    assert run_batch(images, {}, options()) == 0
    assert capsys.readouterr().out.count(": done before\n") == 1
    after = state(options().output)
    assert all(after[name] == content for name, content in first.items() if name != FINGERPRINT)
    assert {n: c for n, (c, _) in after.items()} == {n: c for n, (c, _) in state(whole.output).items()}


def test_products_without_their_mark_are_made_again(images, options, tmp_path, monkeypatch):
    """Killed between writing and marking: the next run cannot know, and writes the same bytes once more."""

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    whole = options(output=tmp_path / "whole")
    run_batch(images[:1], {}, whole)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Journal, "add", die)
        run_batch(images[:1], {}, options())
    assert not (options().output / RECORDS / "a.json").exists()
    (options().output / "a_catalog.fits").write_bytes(b"other bytes")
    assert run_batch(images[:1], {}, options()) == 0
    assert {n: c for n, (c, _) in state(options().output).items()} == {
        n: c for n, (c, _) in state(whole.output).items()
    }


@pytest.mark.parametrize("kind", PRODUCTS)
def test_products_that_were_deleted_are_made_again(images, options, capsys, kind):
    run_batch(images, {}, options(preview=True))
    output = options().output
    before = state(output)
    (output / f"a_{kind}").unlink()
    (output / "b_preview.png").unlink()  # a picture is no measurement
    capsys.readouterr()
    assert run_batch(images, {}, options(preview=True)) == 0
    assert capsys.readouterr().out.count(": done before\n") == 2
    after = state(output)
    assert before.keys() - after.keys() == {"b_preview.png"}
    assert all(after[name][0] == before[name][0] for name in after)


def test_products_that_are_not_asked_for_again_do_not_stay(images, options):
    """They would have the labels of another run."""
    more = {"catalog_format": "ecsv", "regions": True, "preview": True}
    run_batch(images[:1], {}, options(**more))
    others = options().output / "a_notes.txt", options().output / "a_b_catalog.ecsv"
    for path in others:
        path.write_text("the user's")
    assert run_batch(images[:1], {}, options(), overwrite=True) == 0
    assert products(options().output) == sorted([f"a_{each}" for each in PRODUCTS] + [p.name for p in others])


def test_the_same_again_leaves_out_the_products_beside_the_images(images, options, tmp_path, capsys):
    """As ``*.fits`` names them the second time; maps are one for each image, not for each file."""
    maps = {"mask": []}
    for name in "abc":
        (tmp_path / "maps").mkdir(exist_ok=True)
        fits.writeto(tmp_path / "maps" / f"{name}.fits", np.zeros((40, 50), np.uint8))
        maps["mask"].append(str(tmp_path / "maps" / f"{name}.fits"))
    here = options(output=tmp_path)
    assert run_batch(sorted(tmp_path.glob("*.fits")), maps, here) == 0
    before = state(tmp_path)
    capsys.readouterr()
    again = sorted(tmp_path.glob("*.fits"))
    assert len(again) == 9
    assert run_batch(again, maps, here) == 0
    out = capsys.readouterr().out
    assert out.count(": a product of appulse, left out\n") == 6 and "3 of 3 images done" in out
    assert out.count(": done before\n") == 3 and state(tmp_path) == before
    with pytest.raises(UsageError, match="products of appulse; give the images"):
        run_batch([path for path in again if "_" in path.name], {}, here)


@pytest.mark.parametrize("product", ["a_segmentation.fits", "a_catalog.ecsv", "b_preview.png"])
def test_files_that_no_run_has_written_are_refused_unless_told_to_overwrite(images, options, product):
    """The user's own, under the name of a product; even one that these options would not write."""
    output = options().output
    output.mkdir()
    (output / product).write_text("the user's")
    with pytest.raises(UsageError, match=rf"{product} is there.*--overwrite"):
        run_batch(images, {}, options())
    assert list(state(output)) == [product]
    assert run_batch(images, {}, options(), overwrite=True) == 0


def test_products_of_another_run_in_the_directory_are_no_strangers(images, options):
    """As in an array of plain commands, an image each."""
    for path in (*images, *images):
        assert run_batch([path], {}, options()) == 0
    assert run_batch(images, {}, options()) == 0


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["image", "map", "link"])
def test_no_product_takes_the_place_of_an_input(images, options, tmp_path, kind, overwrite):
    output = options().output
    output.mkdir()
    other = image(output / "a_segmentation.fits")
    paths, maps = images[:1], {}
    if kind == "image":
        paths = [*paths, other]
    elif kind == "map":
        maps = {"mask": [f"{output}/../out/a_segmentation.fits[0]"]}
    else:
        other.rename(tmp_path / "elsewhere.fits")
        other.symlink_to(tmp_path / "elsewhere.fits")
        maps = {"mask": [str(other)]}
    before = state(tmp_path)
    with pytest.raises(UsageError, match=r"a_segmentation\.fits is an input"):
        run_batch(paths, maps, options(), overwrite=overwrite)
    assert state(tmp_path) == before


def test_a_bad_image_fails_and_the_others_go_on(images, options, tmp_path, capsys):
    images[1].write_text("no FITS file")
    fits.writeto(tmp_path / "flat.fits", np.zeros((40, 50)))
    paths = [tmp_path / "missing.fits", images[0], images[1], tmp_path / "flat.fits", images[2]]
    assert run_batch(paths, {}, options()) == 1
    assert products(options().output) == [f"{name}_{each}" for name in "ac" for each in PRODUCTS]
    captured = capsys.readouterr()
    errors = [line for line in captured.err.strip().splitlines() if ": warning: " not in line]
    assert len(errors) == 3
    for line, name in zip(errors, ("missing", "b", "flat"), strict=True):
        assert f"{name}.fits" in line
    assert "2 of 5 images done" in captured.out


def test_the_table_at_the_end_says_what_became_of_each(images, options, tmp_path, capsys):
    run_batch(images[:1], {}, options())
    capsys.readouterr()
    bad = tmp_path / "bad.fits"
    bad.write_text("no FITS")
    assert run_batch([images[0], bad, images[2]], {}, options()) == 1
    *_, head, first, second, third, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["image", "Mpix", "galaxies", "seconds", "Mpix/s", "outcome"]
    assert first.split() == [str(images[0]), "done", "before"]
    # Why, which has been said when it failed, perhaps hours ago, is said again.
    assert second.split()[:2] == [str(bad), "FAILED:"] and "cannot be read as FITS" in second
    assert second.count("bad.fits") == 1
    assert third.split()[:3] == [str(images[2]), "0.00", "0"] and third.endswith("done")
    assert last == f"2 of 3 images done, in {options().output}"


def test_a_failed_image_is_tried_again(images, options, tmp_path):
    late = tmp_path / "late.fits"
    assert run_batch([*images, late], {}, options()) == 1
    image(late, 9)
    assert run_batch([*images, late], {}, options()) == 0
    assert "late_catalog.fits" in products(options().output)


def test_two_images_of_one_name_are_a_mistake_before_anything_is_read(tmp_path, options):
    (tmp_path / "night2").mkdir()
    with pytest.raises(UsageError, match="share the stem a"):
        run_batch([tmp_path / "a.fits", tmp_path / "night2" / "a.fits.gz"], {}, options())
    assert not options().output.exists()


def test_no_image_is_a_mistake(options):
    with pytest.raises(UsageError, match="no image"):
        run_batch([], {}, options())


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": 3},
        {"seed": 1},
        {"method": "grid"},
        {"mode": "latent"},
        {"subtract_background": False},
        {"catalog_format": "ecsv"},
        {"keep_realisations": True},
        {"keep_background": True},
        {"regions": True},
        {"preview": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_options_are_refused_unless_told_to_overwrite(images, options, changes):
    run_batch(images[:1], {}, options())
    before = state(options().output)
    (name, value), *_ = changes.items()
    name = "background" if name == "subtract_background" else name
    with pytest.raises(UsageError, match=rf"\({name}\).*--overwrite"):
        run_batch(images[:1], {}, options(**changes))
    assert state(options().output) == before
    if "preview" not in changes:
        assert run_batch(images[:1], {}, options(**changes), overwrite=True) == 0
        held = json.loads((options().output / FINGERPRINT).read_text())["options"]
        assert held[name] == value


def test_another_model_is_refused_even_under_the_same_name(images, options, tmp_path):
    run_batch(images[:1], {}, options())
    torch.manual_seed(1)
    config = NetworkConfig(filters=(4, 4), stamp_size=32, encoder_poolings=1, combiner_filters=4)
    other = save_model(Model("blind", ProbabilisticUNet(config)), tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="model_sha256"):
        run_batch(images[:1], {}, options(model=str(other)))


def test_device_and_place_of_the_weights_are_no_options(images, options, weights, tmp_path, capsys):
    run_batch(images[:1], {}, options())
    copied = tmp_path / "copied.safetensors"
    copied.write_bytes(weights.read_bytes())
    capsys.readouterr()
    assert run_batch(images[:1], {}, options(model=str(copied), device="cpu")) == 0
    assert "done before" in capsys.readouterr().out


def test_an_image_that_changed_under_its_name_is_refused_unless_told_to_overwrite(images, options):
    run_batch(images[:1], {}, options())
    images[0].unlink()
    image(images[0], 77)
    with pytest.raises(UsageError, match="another file named a"):
        run_batch(images[:1], {}, options())
    assert run_batch(images[:1], {}, options(), overwrite=True) == 0


def test_a_noise_map_that_changed_counts_as_a_change(images, options, tmp_path):
    rms = tmp_path / "rms.fits"
    fits.writeto(rms, np.ones((40, 50), np.float32))
    run_batch(images[:1], {"rms": [str(rms)]}, options())
    fits.writeto(rms, np.full((40, 50), 1.1, np.float32), overwrite=True)
    with pytest.raises(UsageError, match="another file named a"):
        run_batch(images[:1], {"rms": [str(rms)]}, options())


def test_another_kind_of_map_counts_as_a_change(images, options, tmp_path):
    """The same file once as noise and once as its inverse square: two different results."""
    noise = tmp_path / "noise.fits"
    fits.writeto(noise, np.full((40, 50), 1.1, np.float32))
    run_batch(images[:1], {"rms": [str(noise)]}, options())
    with pytest.raises(UsageError, match="overwrite"):
        run_batch(images[:1], {"weight": [str(noise)]}, options())


def test_after_overwriting_the_directory_forgets_its_earlier_inputs(images, options):
    run_batch(images, {}, options())
    run_batch(images[:1], {}, options(seed=1), overwrite=True)
    held = json.loads((options().output / FINGERPRINT).read_text())
    assert held["options"]["seed"] == 1
    assert [path.name for path in (options().output / RECORDS).iterdir()] == ["a.json"]


def test_the_fingerprint_names_no_path_and_is_the_same_everywhere(images, options, tmp_path):
    run_batch(images, {}, options())
    run_batch(images, {}, options(output=tmp_path / "elsewhere"))
    for file in (FINGERPRINT, *(f"{RECORDS}/{name}.json" for name in "abc")):
        one, two = ((tmp_path / name / file).read_text() for name in ("out", "elsewhere"))
        assert one == two and str(tmp_path) not in one


@pytest.mark.parametrize("kind", ["rms", "variance", "weight", "mask"])
def test_maps_come_in_order_or_by_template(images, options, tmp_path, kind):
    """Scale 2 for the second image's noise: its summary tells which map it was given."""
    for name, value in zip("abc", (1.0, 2.0, 1.0), strict=True):
        values = {"rms": value, "variance": value**2, "weight": value**-2, "mask": value > 1}[kind]
        array = np.full((40, 50), float(values))
        array[5:] = 0 if kind == "mask" else array[5:]
        fits.writeto(tmp_path / f"{name}_map.fits", array)
    listed = [str(tmp_path / f"{name}_map.fits") for name in "abc"]
    run_batch(images, {kind: listed}, options())
    run_batch(images, {kind: [str(tmp_path / "{stem}_map.fits")]}, options(output=tmp_path / "template"))
    for name in "abc":
        one, two = (
            (tmp_path / directory / f"{name}_summary.json").read_text() for directory in ("out", "template")
        )
        assert one == two
        summary = json.loads(one)
        if kind == "mask":
            assert summary["bad_pixels"] == (250 if name == "b" else 0)
        else:
            assert summary["noise_ratio"] == pytest.approx(0.5 if name == "b" else 1.0, rel=0.1)


@pytest.mark.parametrize(
    ("given", "recorded"), [({}, "rms ERR; mask DQ"), ({"rms": ["none"]}, "rms none; mask DQ")]
)
def test_maps_in_the_files_can_be_left_out(options, tmp_path, given, recorded):
    planes = {
        "SCI": np.random.default_rng(0).normal(0, 3, (40, 50)),
        "ERR": np.full((40, 50), 3.0),
        "DQ": np.zeros((40, 50), np.int16),
    }
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(values, name=name) for name, values in planes.items())]
    hdus[0].header["TELESCOP"] = "HST"
    fits.HDUList(hdus).writeto(tmp_path / "hst.fits")
    assert run_batch([tmp_path / "hst.fits"], given, options()) == 0
    summary = json.loads((options().output / "hst_summary.json").read_text())
    assert summary["maps"] == recorded


def test_a_missing_map_fails_its_image_only(images, options, tmp_path, capsys):
    for name in "ac":
        fits.writeto(tmp_path / f"{name}_rms.fits", np.ones((40, 50)))
    assert run_batch(images, {"rms": [str(tmp_path / "{stem}_rms.fits")]}, options()) == 1
    assert products(options().output) == [f"{name}_{each}" for name in "ac" for each in PRODUCTS]
    assert "b_rms.fits" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["one.fits", "two.fits"], ["one.fits"]])
def test_a_wrong_number_of_maps_is_a_mistake(images, options, given):
    with pytest.raises(UsageError, match=rf"--rms has {len(given)} files for 3 images"):
        run_batch(images, {"rms": given}, options())


def test_an_image_that_cannot_be_read_any_more_fails_when_its_turn_comes(images, options, capsys):
    run_batch(images[:1], {}, options())
    images[0].unlink()
    images[0].symlink_to("/proc/self/mem")  # a file whose first byte cannot be read, by root neither
    capsys.readouterr()
    assert run_batch(images, {}, options()) == 1
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if ": warning: " not in line]
    assert len(errors) == 1 and errors[0].startswith(f"{images[0]}: cannot be read (")
    assert "2 of 3 images done" in captured.out


def test_files_are_hashed_when_their_turn_comes(images, options, monkeypatch):
    content_hash, done = images_of_a_batch._content_hash, []

    def noted(files):
        done.append(len(list(options().output.glob("*_summary.json"))))
        return content_hash(files)

    monkeypatch.setattr(images_of_a_batch, "_content_hash", noted)
    run_batch(images, {}, options())
    assert done == [0, 1, 2]


def test_an_image_that_failed_in_a_shard_may_be_corrected(tmp_path, options):
    bad = tmp_path / "a.fits"
    fits.writeto(bad, np.zeros((40, 50)))
    with ThreadPoolExecutor(2) as pool:
        shards = [
            pool.submit(run_batch, [bad], {}, options(block=32), shard=f"{number}/2") for number in (1, 2)
        ]
        assert [shard.result() for shard in shards] == [1, 1]
    bad.unlink()
    image(bad)
    assert run_batch([bad], {}, options(block=32), shard="1/1") == 0
    assert products(options().output) == [f"a_{each}" for each in PRODUCTS]


def test_an_empty_list_of_maps_is_none(images, options):
    assert run_batch(images[:1], {"rms": None, "mask": ()}, options()) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 0}, "samples is 0"),
        ({"seed": -1}, "seed"),
        ({"model": "andromeda"}, "unknown model 'andromeda'; bundled models"),
        ({"operating_point": "perfect"}, "it has: balanced"),
    ],
)
def test_options_that_cannot_be_used_are_mistakes(images, options, changes, message):
    with pytest.raises(UsageError, match=message):
        run_batch(images, {}, options(**changes))
    assert not options().output.exists()


def test_a_dry_run_tells_and_writes_nothing(images, options, tmp_path, capsys):
    assert run_batch(images, {}, options(), dry_run=True) == 0
    assert capsys.readouterr().out.count("would write") == 3
    assert run_batch([*images, tmp_path / "missing.fits"], {}, options(), dry_run=True) == 1
    assert "missing.fits" in capsys.readouterr().err
    assert not options().output.exists()
    run_batch(images[:1], {}, options())
    before = state(options().output)
    with pytest.raises(UsageError, match="overwrite"):
        run_batch(images, {}, options(seed=1), dry_run=True)
    capsys.readouterr()
    run_batch(images, {}, options(), dry_run=True)
    told = capsys.readouterr().out
    assert f"{images[0]}: done before\n" in told and told.count("would write") == 2
    run_batch(images, {}, options(), dry_run=True, overwrite=True)
    assert capsys.readouterr().out.count("would write") == 3
    assert state(options().output) == before


def test_a_dry_run_times_the_network_once_and_shares_the_time_among_shards(
    images, options, monkeypatch, capsys
):
    times = iter([60.0])  # a second call would fail
    monkeypatch.setattr("appulse.batch.run.seconds_per_stamp", lambda sampler: next(times))
    assert run_batch(images, {}, options(block=32), dry_run=True, shard="1/2") == 0
    assert capsys.readouterr().out.count("in each of 2 shards") == 3


def test_progress_is_passed_on(images, options):
    calls = []
    run_batch(images[:1], {}, options(), progress=lambda at: calls.append((at.name, at.stage, at.share)))
    assert {name for name, _, _ in calls} == {"a"}
    shares = [share for *_, share in calls]
    assert shares == sorted(shares) and 0 < shares[0] and shares[-1] > 0.9
    assert [stage for _, stage, _ in calls].count("first pass") == 12


def test_an_unforeseen_failure_of_one_image_does_not_stop_the_others(images, options, monkeypatch, capsys):
    """Nothing aborts a field, let alone a batch: a defect of ours costs one image."""
    segment_to_files = images_of_a_batch.segment_to_files

    def fragile(task, *others):
        if task.image == str(images[0]):
            raise ZeroDivisionError("a defect")
        return segment_to_files(task, *others)

    monkeypatch.setattr("appulse.batch.images.segment_to_files", fragile)
    assert run_batch(images, {}, options()) == 1
    assert products(options().output) == [f"{name}_{each}" for name in "bc" for each in PRODUCTS]
    assert "a.fits" in capsys.readouterr().err


def test_a_damaged_fingerprint_is_explained(images, options):
    run_batch(images[:1], {}, options())
    (options().output / FINGERPRINT).write_text("{")
    with pytest.raises(UsageError, match=FINGERPRINT):
        run_batch(images[:1], {}, options())
    assert run_batch(images[:1], {}, options(), overwrite=True) == 0


def test_what_another_input_left_is_refused_before_the_first_image_is_begun(images, options, capsys):
    run_batch(images[1:2], {}, options())
    images[1].unlink()
    image(images[1], 77)
    before = state(options().output)
    with pytest.raises(UsageError, match="another file named b"):
        run_batch(images, {}, options())
    assert state(options().output) == before


def test_a_refusal_in_the_middle_costs_its_image_only(images, options, monkeypatch, capsys):
    """Another run has begun there meanwhile: found out too late to stop everything."""
    has = Journal.has

    def refuse(journal, name, content):
        if name == "b":
            raise UsageError("holds another's")
        return has(journal, name, content)

    monkeypatch.setattr(Journal, "has", refuse)
    assert run_batch(images, {}, options()) == 1
    assert products(options().output) == [f"{name}_{each}" for name in "ac" for each in PRODUCTS]
    captured = capsys.readouterr()
    assert "2 of 3 images done" in captured.out and "b.fits: holds another's" in captured.err


def test_overwriting_that_was_stopped_goes_on(images, options, monkeypatch, capsys):
    class Killed(BaseException):
        pass

    def stop(folder, *others, **named):
        if folder.name == ".c.work":
            raise Killed
        return claim_folder(folder, *others, **named)

    run_batch(images, {}, options())
    for changes in ({}, {"seed": 1}):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr("appulse.batch.images.claim_folder", stop)
            run_batch(images, {}, options(**changes), overwrite=True)
        done = {name: at for name, (_, at) in state(options().output).items() if name[0] in "ab"}
        capsys.readouterr()
        assert run_batch(images, {}, options(**changes), overwrite=True) == 0
        assert capsys.readouterr().out.count(".fits: done before") == 2
        assert {name: at for name, (_, at) in state(options().output).items() if name in done} == done
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("appulse.batch.images.claim_folder", stop)
        run_batch(images, {}, options(), overwrite=True)
    assert run_batch(images, {}, options()) == 0, "the products are those that were to be overwritten"
    assert run_batch(images, {}, options(seed=1), overwrite=True) == 0
    capsys.readouterr()
    # Finished, it begins again when it is asked to.
    assert run_batch(images, {}, options(seed=1), overwrite=True) == 0
    assert "done before" not in capsys.readouterr().out


def test_after_nothing_but_failures_other_options_may_be_tried_in_the_same_place(images, options, tmp_path):
    bad = tmp_path / "bad.fits"
    bad.write_text("no FITS")
    assert run_batch([bad], {}, options()) == 1
    assert not list(options().output.iterdir())
    assert run_batch(images, {}, options(seed=3)) == 0
    # What is done keeps its options, whatever fails beside it.
    assert run_batch([bad], {}, options(seed=3)) == 1
    with pytest.raises(UsageError, match="other options"):
        run_batch([bad], {}, options(seed=4))


def test_an_image_that_changed_while_overwriting_was_stopped_is_done_anew(images, options, tmp_path):
    bad = tmp_path / "bad.fits"
    bad.write_text("no FITS")
    assert run_batch([images[0], bad], {}, options(), overwrite=True) == 1
    images[0].unlink()
    image(images[0], 77, scale=3.0)
    before = state(options().output)["a_segmentation.fits"]
    assert run_batch([images[0], bad], {}, options(), overwrite=True) == 1
    assert state(options().output)["a_segmentation.fits"] != before


def test_nothing_is_forgotten_for_a_scheduler_that_does_not_answer(images, options, monkeypatch):
    @contextlib.contextmanager
    def silent(address):
        raise UsageError("no scheduler answers")
        yield

    run_batch(images, {}, options())
    before = state(options().output)
    monkeypatch.setattr("appulse.batch.run.cluster", silent)
    with pytest.raises(UsageError, match="no scheduler"):
        run_batch(images, {}, options(seed=1), overwrite=True, dask="tcp://nowhere:1")
    assert state(options().output) == before


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/appulse"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_place_where_nothing_can_be_written_is_a_mistake(images, options, tmp_path, place, overwrite):
    (tmp_path / "file").write_text("something else")
    with pytest.raises(UsageError, match=r"is a file, not a directory|is read-only|cannot write there"):
        run_batch(images, {}, options(output=tmp_path / place), overwrite=overwrite)


def test_temporaries_of_a_killed_run_are_removed(images, options):
    output = options().output
    output.mkdir()
    number = "0123456789abcdef"
    of_ours = [f"{name}.{number}.part" for name in (".a_segmentation", ".a_summary", "..a")]
    of_others = [f"{name}.{number}.part" for name in (".a_b_catalog", ".d_catalog")] + [".a_summary.txt"]
    for name in (*of_ours, *of_others):
        (output / name).write_text("left")
    run_batch(images[:1], {}, options())
    left = {path.name for path in output.glob(".*")} - {RECORDS}
    assert left == set(of_others)
