"""Studies joined by the marks that their slides share."""

from __future__ import annotations

import itertools

from data_prep.sources.catalogue_file import join_studies

MARKS = {"a": ["1"], "b": ["1", "2"], "c": ["3"], "d": ["3", "2"], "e": ["4", "5"], "f": ["6"]}


def test_slides_linked_by_a_chain_of_marks_are_one_study_in_any_order() -> None:
    for order in itertools.permutations(MARKS):
        studies = join_studies({slide: MARKS[slide] for slide in order})
        assert list(studies) == list(order)
        assert {studies[slide] for slide in "abcd"} == {frozenset("123")}
        assert studies["e"] == frozenset("45")
        assert studies["f"] == frozenset("6")


def test_a_mark_of_many_slides_links_them() -> None:
    studies = join_studies({f"s{number}": ["common"] for number in range(256)} | {"last": ["own", "common"]})
    assert set(studies.values()) == {frozenset({"common", "own"})}


def test_no_slides_have_no_studies() -> None:
    assert join_studies({}) == {}
