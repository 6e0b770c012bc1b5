"""Runs that use one directory at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from appulse.batch.journal import RECORDS, Journal
from appulse.files import UsageError


def test_many_runs_at_once_lose_no_entry(tmp_path):
    names = [f"tile{number}" for number in range(48)]

    def run(name):
        journal = Journal(tmp_path, {"seed": 0}, overwrite=False)
        journal.begin([name])
        (tmp_path / f"{name}_summary.json").write_text("{}")
        journal.add(name, f"content of {name}")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(run, names))
    journal = Journal(tmp_path, {"seed": 0}, overwrite=False)
    assert all(journal.has(name, lambda name=name: f"content of {name}") for name in names)


def test_of_runs_with_different_options_one_begins(tmp_path):
    def run(seed):
        try:
            Journal(tmp_path, {"seed": seed}, overwrite=False).begin(["a"])
        except UsageError as error:
            assert "other options (seed)" in str(error)
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(run, range(16))) == 1


def test_a_run_that_others_replaced_says_so(tmp_path):
    first = Journal(tmp_path, {"seed": 0}, overwrite=False)
    first.begin(["a"])
    Journal(tmp_path, {"seed": 1}, overwrite=True).begin(["a"])
    with pytest.raises(UsageError, match="other options"):
        first.has("a", lambda: "content")


def test_records_of_other_options_count_for_nothing(tmp_path):
    first, second = (Journal(tmp_path, {"seed": seed}, overwrite=True) for seed in (0, 1))
    (tmp_path / "a_summary.json").write_text("{}")
    first.begin(["a"])
    first.add("a", "content")
    late = (tmp_path / RECORDS / "a.json").read_bytes()
    second.begin(["a"])
    with pytest.raises(UsageError, match="other options"):
        first.add("a", "content")
    (tmp_path / RECORDS / "a.json").write_bytes(late)  # second began between the look and the record
    assert not second.has("a", lambda: "content")


def test_content_is_asked_for_only_where_there_is_a_record(tmp_path):
    journal = Journal(tmp_path, {"seed": 0}, overwrite=False)
    journal.begin(["a"])
    assert not journal.has("a", lambda: pytest.fail("it takes long"))


def test_a_run_that_came_to_nothing_does_not_take_the_options_of_another_with_it(tmp_path):
    """The other has begun, and has nothing to show for it yet."""
    failing, other = (Journal(tmp_path, {"seed": 0}, overwrite=False) for _ in range(2))
    failing.begin(["a"])
    other.begin(["b"])
    failing.abandon()
    other.add("b", "content")
    with pytest.raises(UsageError, match="other options"):
        Journal(tmp_path, {"seed": 1}, overwrite=False).check()


def test_after_a_run_came_to_nothing_others_may_begin_and_late_ones_are_refused(tmp_path):
    failing, late = (Journal(tmp_path, {"seed": 0}, overwrite=False) for _ in range(2))
    failing.begin(["a"])
    late.begin(["b"])
    failing.abandon()
    Journal(tmp_path, {"seed": 1}, overwrite=False).begin(["c"])
    with pytest.raises(UsageError, match="other options"):
        late.add("b", "content")
    assert not list((tmp_path / RECORDS).iterdir())
