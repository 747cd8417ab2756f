"""Donors that publications name and catalogues leave out: who a slide is of, by its name.

DLPFC: twelve Visium sections of three donors. Maynard KR, Collado-Torres L, et al., "Transcriptome-scale spatial gene
expression in the human dorsolateral prefrontal cortex", Nature Neuroscience 24, 425-436 (2021): 151507-151510 are of
donor 1, 151669-151672 of donor 2, 151673-151676 of donor 3; the donors' numbers are those of the authors' data release
(LieberInstitute/HumanPilot). HEST-1k holds the same sections as MISC1 to MISC12; the slice is its catalogue's column
`subseries`.

Two later studies of the Lieber Institute, in STimage-1K4M under their authors' names, carry the donor's number in the
slide's: Huuki-Myers LA, et al., Science 384 (2024) and Kwon SH, et al., GEN Biotechnology 2 (2023).
"""

from __future__ import annotations

import re

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


def dlpfc_slice(slide_name: str) -> str | None:
    """The number of the DLPFC section that a slide is, by its name or file stem; None if it is none of the twelve."""
    found = _SLICE.search(slide_name)
    return found.group(1) if found else _HEST.get(slide_name)


def known_patient(slide_name: str) -> str | None:
    """The donor of a slide that a publication names; None where this table knows nobody."""
    slice_number = dlpfc_slice(slide_name)
    for donor, slices in DLPFC_DONORS.items():
        if slice_number in slices:
            return donor
    found = _LIEBER.match(slide_name)
    return found.group(1) if found else None
