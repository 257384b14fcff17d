"""Memory over files of many groups: what is read one by one does not add up."""

import json
import tracemalloc

import pytest

from ropd_cli.analysis.catalogue import Catalogue
from ropd_cli.analysis.group_files import iter_groups
from ropd_cli.records.packed import Packed
from ropd_cli.records.schemas import RubricRecord

WORDS = [
    "The final result that the answer states is {}.",
    "The value {} appears in the answer.",
    "The answer shows its work, step {}.",
]
GROUPS = 500, 1500


@pytest.fixture
def rubrics(tmp_path):
    def write(count):
        file = tmp_path / f"rubrics-{count}.jsonl"
        with open(file, "w") as out:
            for k in range(count):
                criteria = [
                    {"criterion_id": f"c{j}", "category": "Task Completion", "criterion": words.format(k), "points": 1}
                    for j, words in enumerate(WORDS * 3)
                ]
                rubric = {"schema_version": "ropd.rubric.v1", "rubrics": criteria, "maximum_score": len(criteria)}
                record = {"uid": f"u{k}", "raw_prompt_hash": f"{k:064x}", "rubric": rubric, "rubric_hash": f"{k:064x}"}
                print(json.dumps(record | {"model": "m", "template_hash": "t"}), file=out)
        return file

    return write


def peak_of(work):
    work()  # imports and caches are no part of it
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bytes_per_group(work, rubrics):
    less, more = (peak_of(lambda file=rubrics(count): work(file)) for count in GROUPS)
    return (more - less) / (GROUPS[1] - GROUPS[0])


def test_groups_are_read_one_by_one(rubrics):
    """A key and a line number are held of each; the group itself would be some 10 kB."""
    assert bytes_per_group(lambda file: sum(1 for _ in iter_groups(file)), rubrics) < 1500
    assert bytes_per_group(lambda file: len(list(iter_groups(file))), rubrics) > 5000


def test_a_large_file_is_read_into_the_catalogue_one_by_one(rubrics, tmp_path, monkeypatch):
    numbers = iter(range(100))

    def look(file):
        with Catalogue.open(file, tmp_path / f"cache-{next(numbers)}") as catalogue:
            return len(catalogue)

    assert bytes_per_group(look, rubrics) > 5000  # small files are kept
    monkeypatch.setattr("ropd_cli.analysis.catalogue.KEPT_BYTES", 0)
    assert bytes_per_group(look, rubrics) < 2500


def test_packed_records_are_small_and_whole(rubrics):
    held = Packed(rubrics(10), RubricRecord)
    assert len(held) == 10 and held["u7", f"{7:064x}"].rubric.rubrics[0].criterion == WORDS[0].format(7)
    kept = []
    assert bytes_per_group(lambda file: kept.append(Packed(file, RubricRecord)), rubrics) < 4000
