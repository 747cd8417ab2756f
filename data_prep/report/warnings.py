"""What a reader of the report should know before anything else: who stands for the patient, and which licences bind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from stalign_pl.shard_format import SlideRecord

NON_COMMERCIAL = re.compile(r"\bNC\b|non.?commercial", re.IGNORECASE)
"""CC BY-NC-SA 4.0, 'non-commercial use only', ..."""


@dataclass(frozen=True)
class LicenceRow:
    """Slides under one licence, and what to mind, '' where nothing."""

    licence: str
    slides: int
    warning: str


def count_licences(slides: Iterable[SlideRecord]) -> tuple[LicenceRow, ...]:
    """Count slides by licence, the commonest first."""
    counts = Counter(slide.licence.strip() for slide in slides)
    return tuple(
        LicenceRow(licence, count, warn_of_licences(licence))
        for licence, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


def warn_of_licences(licence: str) -> str:
    """Warn of a licence's limits; '' where it has none."""
    if not licence:
        return "no licence is named: without one nobody may pass the data on. Look at the source's page"
    if NON_COMMERCIAL.search(licence):
        return "non-commercial: the data, and by many readings models trained on them, are not for commercial use"
    return ""


def warn_of_patients(slides: Iterable[SlideRecord]) -> tuple[str, ...]:
    """Warn, in words, of slides without a named patient, and of what that means for a split."""
    slides = tuple(slides)
    marks = []
    for who, words in (
        (
            "slide",
            "the slide stands for the patient, because nobody named one: two sections of one person may stand on both "
            "sides of a split, which flatters its test figures",
        ),
        (
            "study",
            "the study stands for the patient, because nobody named one: a split by patient keeps such a study whole "
            "and cannot divide it",
        ),
    ):
        count = sum(slide.patient_from == who for slide in slides)
        if count:
            marks.append(f"In {count} of {len(slides)} slides {words}.")
    return tuple(marks)
