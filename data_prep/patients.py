"""Who is the patient: the unit of every split. Never silently the slide."""

from __future__ import annotations

from data_prep.donors import known_patient
from data_prep.slide import SlideError


def unit_of(slide: str, patient: str, patient_from: str, study: str, slide_as_patient: bool) -> tuple[str, str]:
    """(patient, who named it) of a slide.

    A named patient stands, then a donor whom the literature names (see donors.py). Else, where the user said so, the
    slide is a patient of its own; else its study stands for the patient, since two slides of one study may be of one
    person and two studies rarely are.

    Args:
        patient: '' where nobody named one.
        patient_from: who did, see shard_format.SlideRecord.
        study: '' where unknown.

    Raises:
        SlideError: neither patient nor study is known, and the user did not say that slides are patients.
    """
    if patient:
        return patient, patient_from
    donor = known_patient(slide)
    if donor:
        return donor, "source"
    if slide_as_patient:
        return slide, "slide"
    if study:
        return f"study {study}", "study"
    raise SlideError(
        slide,
        "has no patient and no study, and splits are made by patient. Give one in a sheet (slides.csv with the columns "
        "slide, patient, study, in the input folder), under `patients:` or `study:` of the source in the config, or, "
        "where every slide is its own patient, by --slide-as-patient",
    )
