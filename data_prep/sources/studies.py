"""Which slides belong to one study, where a catalogue gives several marks of it: accessions, pmids, titles, links."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def joined_studies(marks_of_slide: Mapping[str, Iterable[str]]) -> dict[str, frozenset[str]]:
    """Slide -> every mark of its study. Slides that share a mark, or are linked by a chain of shared marks, are one
    study, so that a split by study tears no publication apart. Independent of the order of the slides.

    Args:
        marks_of_slide: slide -> at least one mark.
    """
    parent: dict[str, str] = {}

    def root(mark: str) -> str:
        while parent[mark] != mark:
            parent[mark] = parent[parent[mark]]
            mark = parent[mark]
        return mark

    marks_of = {slide: tuple(marks) for slide, marks in marks_of_slide.items()}
    for marks in marks_of.values():
        for mark in marks:
            parent.setdefault(mark, mark)
            parent[root(mark)] = root(marks[0])
    together: dict[str, set[str]] = {}
    for mark in parent:
        together.setdefault(root(mark), set()).add(mark)
    frozen = {first: frozenset(marks) for first, marks in together.items()}
    return {slide: frozen[root(marks[0])] for slide, marks in marks_of.items()}
