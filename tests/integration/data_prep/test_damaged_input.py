"""`data_prep build` over damaged input, in every source: the damaged slide is named by the right reason, the good one
built, and no shard is wrong. See damage/; the cases are grouped by class of damage."""

from __future__ import annotations

import re
import resource
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.slide.slide import SlideImage
from tests.support.data_prep.damage import (
    columns,
    coordinates,
    counts,
    encoding,
    harmless,
    ids,
    images,
    missing,
    truncated,
)
from tests.support.data_prep.damage.case import CLASSES, Case
from tests.support.data_prep.damage.cohorts import BAD, GOOD, LAYOUTS
from tests.support.data_prep.damage.running import MOST_BYTES, Outcome, build_damaged, build_within_memory, same_shard
from tests.support.data_prep.whole_image import whole_image

CASES: dict[str, list[Case]] = {
    "missing": missing.CASES,
    "truncated": truncated.CASES,
    "columns": columns.CASES,
    "counts": counts.CASES,
    "coordinates": coordinates.CASES,
    "ids": ids.CASES,
    "encoding": encoding.CASES,
    "images": images.CASES,
}
LEAST_A_CLASS, LEAST = 8, 100


class Undamaged:
    """The cohort of each layout and its shard set, each made once and then only read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._outcomes: dict[str, Outcome] = {}

    def cohort(self, layout: str) -> Path:
        path = self.folder / layout / "in"
        return path if path.exists() else LAYOUTS[layout].write_both(path)

    def out(self, layout: str) -> Path:
        return self.folder / layout / "set"

    def built(self, layout: str) -> Outcome:
        if layout not in self._outcomes:
            nothing = Case(layout, "nothing", lambda root: None, "")
            self._outcomes[layout] = build_damaged(nothing, self.cohort(layout), self.out(layout))
        return self._outcomes[layout]


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory: pytest.TempPathFactory) -> Undamaged:
    return Undamaged(tmp_path_factory.mktemp("undamaged"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_undamaged_slides_are_built(undamaged: Undamaged, layout: str) -> None:
    """Else a damaged one that fails would say nothing."""
    outcome = undamaged.built(layout)
    assert (outcome.refusal, outcome.failed, outcome.exclusions) == (None, {}, {})
    assert sorted(outcome.built) == [BAD, GOOD]
    for record in outcome.built.values():
        assert record.spots == 54
        assert record.on_tissue > 0.95


def check_the_good_slide(case: Case, outcome: Outcome, undamaged: Undamaged, out: Path) -> None:
    was = undamaged.built(case.layout)
    assert same_shard(outcome.built[GOOD], out, was.built[GOOD], undamaged.out(case.layout))


@pytest.mark.timeout(120)  # a hang fails
@pytest.mark.parametrize("case", [pytest.param(case, id=f"{kind}-{case}") for kind in CASES for case in CASES[kind]])
def test_damage_is_named_and_the_good_slide_is_built(undamaged: Undamaged, tmp_path: Path, case: Case) -> None:
    root = Path(shutil.copytree(undamaged.cohort(case.layout), tmp_path / "in"))
    if case in images.CASES:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcome, most_bytes = build_within_memory(case, root, tmp_path / "set")
        assert most_bytes < MOST_BYTES
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # decoders in C are seen here alone
        assert (after - before) * 1024 < MOST_BYTES
    else:
        outcome = build_damaged(case, root, tmp_path / "set")
    if case.refused:
        assert outcome.refusal is not None, outcome
        assert re.search(case.message, str(outcome.refusal), re.DOTALL), outcome.refusal
        return
    assert outcome.refusal is None, outcome.refusal
    assert BAD not in outcome.built
    if case.rule:
        assert outcome.failed == {}
        assert (outcome.exclusions[BAD].rule, list(outcome.exclusions)) == (case.rule, [BAD])
        reason = outcome.exclusions[BAD].reason
    else:
        assert (list(outcome.failed), outcome.exclusions) == ([BAD], {})
        reason = outcome.failed[BAD]
    assert not reason.startswith("unexpected error"), reason
    assert "Traceback" not in reason
    assert re.search(case.message, reason, re.DOTALL), reason
    check_the_good_slide(case, outcome, undamaged, tmp_path / "set")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", harmless.CASES, ids=str)
def test_what_does_no_harm_changes_nothing(undamaged: Undamaged, tmp_path: Path, case: Case) -> None:
    root = Path(shutil.copytree(undamaged.cohort(case.layout), tmp_path / "in"))
    outcome = build_damaged(case, root, tmp_path / "set")
    assert (outcome.refusal, outcome.failed, outcome.exclusions) == (None, {}, {})
    was = undamaged.built(case.layout).built[BAD]
    assert same_shard(outcome.built[BAD], tmp_path / "set", was, undamaged.out(case.layout))
    assert re.search(case.message, "\n".join(outcome.built[BAD].notes)), outcome.built[BAD].notes
    check_the_good_slide(case, outcome, undamaged, tmp_path / "set")


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_has_its_colours(tmp_path: Path, kind: str) -> None:
    """What printers' software leaves is read as the picture it is, up to the loss of a JPEG."""
    path = tmp_path / "image.png"
    Image.fromarray(images.PICTURE).convert("CMYK").save(path, kind, quality=95)
    pixels = whole_image("s", SlideImage(path, "fullres"))
    assert np.abs(pixels.astype(int) - images.PICTURE).mean() < 3


def test_every_class_has_its_variants_and_every_source_has_some() -> None:
    numbers = {kind: len(cases) for kind, cases in CASES.items()}
    print("\nclass of damage  variants")
    for kind, number in numbers.items():
        print(f"{kind:16} {number:8}")
    print(f"{'in all':16} {sum(numbers.values()):8}")
    assert tuple(numbers) == CLASSES
    assert min(numbers.values()) >= LEAST_A_CLASS
    assert sum(numbers.values()) >= LEAST
    for cases in CASES.values():
        assert len({str(case) for case in cases}) == len(cases)
    layouts = Counter(case.layout for cases in CASES.values() for case in cases)
    assert layouts.keys() == LAYOUTS.keys()
    assert min(layouts.values()) >= 5, layouts
