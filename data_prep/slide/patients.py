"""Who is the patient: the unit of every split. Never silently the slide.

Publications name donors that catalogues leave out. DLPFC: twelve Visium sections of three donors. Maynard KR,
Collado-Torres L, et al., "Transcriptome-scale spatial gene expression in the human dorsolateral prefrontal cortex",
Nature Neuroscience 24, 425-436 (2021): 151507-151510 are of donor 1, 151669-151672 of donor 2, 151673-151676 of donor
3; the donors' numbers are those of the authors' data release (LieberInstitute/HumanPilot). HEST-1k holds the same
sections as MISC1 to MISC12; the slice is its catalogue's column `subseries`.

Two later studies of the Lieber Institute, in STimage-1K4M under their authors' names, carry the donor's number in the
slide's: Huuki-Myers LA, et al., Science 384 (2024) and Kwon SH, et al., GEN Biotechnology 2 (2023).
"""

from __future__ import annotations

import re

from data_prep.slide.slide import SlideError


def find_unit(slide: str, patient: str, patient_from: str, study: str, slide_as_patient: bool) -> tuple[str, str]:
    """Find (patient, who named it) of a slide.

    A named patient stands, then a donor whom the literature names (DLPFC_DONORS). Else, where the user said so, the
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
    donor = find_known_patient(slide)
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


DLPFC_DONORS = {
    "Br5292": ("151507", "151508", "151509", "151510"),
    "Br5595": ("151669", "151670", "151671", "151672"),
    "Br8100": ("151673", "151674", "151675", "151676"),
}
"""Donor -> the numbers of the four sections."""


PAPER_TEST_SLICES = ("151507", "151508", "151509", "151669", "151670", "151673")
"""What ST-Align (arXiv 2411.16793) keeps out of pretraining: six sections, of all three donors."""


_SLICES = tuple(slice_number for slices in DLPFC_DONORS.values() for slice_number in slices)


_HEST = {f"MISC{12 - place}": slice_number for place, slice_number in enumerate(_SLICES)}
"""HEST-1k v1.1.0: MISC12 is 151507, ..., MISC1 is 151676."""


_SLICE = re.compile(rf"(?<!\d)({'|'.join(_SLICES)})(?!\d)")


_LIEBER = re.compile(r"^Human_Brain_(?:Louise|Kwon)_.*_(Br\d{4})(?:_|$)")


def find_dlpfc_slice(slide_name: str) -> str | None:
    """The number of the DLPFC section that a slide is, by its name or file stem; None if it is none of the twelve."""
    found = _SLICE.search(slide_name)
    return found.group(1) if found else _HEST.get(slide_name)


def find_known_patient(slide_name: str) -> str | None:
    """The donor of a slide that a publication names; None where this table knows nobody."""
    slice_number = find_dlpfc_slice(slide_name)
    for donor, slices in DLPFC_DONORS.items():
        if slice_number in slices:
            return donor
    found = _LIEBER.match(slide_name)
    return found.group(1) if found else None
