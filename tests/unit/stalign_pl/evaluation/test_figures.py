"""The pictures: what is drawn where, in which colour, and that a file is whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.colors import to_hex
from PIL import Image

from stalign_pl.evaluation.canvas import PALETTE, UNLABELLED, check_positions, save_figure
from stalign_pl.evaluation.checks import EvaluationError
from stalign_pl.evaluation.figures import draw_domains, draw_expression

XY = np.stack(np.meshgrid(np.arange(8), np.arange(6)), axis=-1).reshape(-1, 2) * 100.0
TRUTH = np.array(["L1", "L2", "WM"])[(XY[:, 1] // 200).astype(int)]
PREDICTED = np.array([2, 0, 1])[(XY[:, 1] // 200).astype(int)]


def spots(axes: Axes) -> EllipseCollection:
    (found,) = [item for item in axes.collections if isinstance(item, EllipseCollection)]
    return found


def test_matched_domains_have_the_annotations_colours() -> None:
    truth = TRUTH.copy()
    truth[:3] = ""
    annotated, predicted = draw_domains(XY, truth, PREDICTED, ari=1.0).axes
    expected = [PALETTE[number] for number in (XY[:, 1] // 200).astype(int)]
    assert [to_hex(c).upper() for c in spots(predicted).get_facecolors()] == expected
    assert [to_hex(c).upper() for c in spots(annotated).get_facecolors()] == [UNLABELLED] * 3 + expected[3:]
    assert predicted.get_title() == "predicted, ARI 1.000"


def test_panels_are_true_to_scale_with_y_down() -> None:
    image = np.zeros((20, 30, 3), dtype=np.uint8)
    figure = draw_domains(XY, TRUTH, PREDICTED, image, (-50, 750, 550, -50), "a slide")
    assert len(figure.axes) == 3
    for axes in figure.axes:
        bottom, top = axes.get_ylim()
        assert bottom > top
        assert axes.get_aspect() == 1
        np.testing.assert_array_equal(spots(axes).get_offsets(), XY)
    assert figure.axes[0].images[0].get_extent() == [-50, 750, 550, -50]
    assert check_positions(XY)[1] == 100.0


def test_legend_names_classes_unlabelled_and_surplus_domains() -> None:
    truth, predicted = TRUTH.copy(), PREDICTED.copy()
    truth[-2:], predicted[-2:] = "", 3
    (legend,) = draw_domains(XY, truth, predicted).legends
    assert [text.get_text() for text in legend.get_texts()] == ["L1", "L2", "WM", "extra 1", "unlabelled"]


def test_a_pair_of_panels_shares_one_scale() -> None:
    generator = np.random.default_rng(0)
    measured, predicted = generator.random((48, 3)) * 4, generator.random((48, 3)) * 9
    figure = draw_expression(XY, measured, predicted, ["A", "B", "C"], scores=[0.5, -0.25, np.nan])
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == [
        *("A measured", "A predicted, r = 0.50", "B measured", "B predicted, r = -0.25"),
        *("C measured", "C predicted, r = -"),
    ]
    for gene in range(3):
        left, right = spots(panels[2 * gene]), spots(panels[2 * gene + 1])
        assert left.get_clim() == right.get_clim() == (0.0, pytest.approx(np.percentile(measured[:, gene], 99)))
        np.testing.assert_array_equal(left.get_array(), measured[:, gene])
        np.testing.assert_array_equal(right.get_array(), predicted[:, gene])
    assert [axes.get_ylabel() for axes in figure.axes].count("log1p(CP10K)") == 3


def test_a_saved_figure_is_whole_inked_and_uncut(tmp_path: Path) -> None:
    figure = draw_domains(XY, TRUTH, PREDICTED, title="a slide with a title")
    save_figure(figure, tmp_path / "domains.png")
    assert [file.name for file in tmp_path.iterdir()] == ["domains.png"]
    pixels = np.asarray(Image.open(tmp_path / "domains.png").convert("RGB"))
    for colour in PALETTE[:3]:
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (pixels == wanted).all(axis=2).sum() > 500
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (border == 255).all()


@pytest.mark.parametrize("span", [(20, 2), (2, 20)])
def test_twenty_long_names_stay_inside_the_picture(tmp_path: Path, span: tuple[int, int]) -> None:
    wide = XY / XY.max() * np.array(span) * 100
    truth = np.array([f"a rather long name of a layer {number:02d}" for number in range(20)])[np.arange(48) % 20]
    save_figure(draw_domains(wide, truth, np.arange(48) % 20, title="wide"), tmp_path / "wide.png")
    pixels = np.asarray(Image.open(tmp_path / "wide.png").convert("RGB"))
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (border == 255).all()
    for colour in PALETTE:
        assert (pixels == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=2).sum() > 40


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    class Unwritable:
        def savefig(self, path: Path, **_: object) -> None:
            Path(path).write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_figure(Unwritable(), tmp_path / "domains.png")
    assert list(tmp_path.iterdir()) == []


def test_bad_pictures_are_refused() -> None:
    image = np.zeros((20, 30, 3), dtype=np.uint8)
    with pytest.raises(EvaluationError, match="bottom > top is expected"):
        draw_domains(XY, TRUTH, PREDICTED, image, (0, 700, 0, 500))
    with pytest.raises(EvaluationError, match="truth 47"):
        draw_domains(XY, TRUTH[1:], PREDICTED)
    with pytest.raises(EvaluationError, match="21 domains; at most 20"):
        draw_domains(XY, TRUTH, np.arange(48) % 21)
    with pytest.raises(EvaluationError, match=r"13 genes.*1 to 12"):
        draw_expression(XY, np.zeros((48, 13)), np.zeros((48, 13)), list("abcdefghijklm"))
    with pytest.raises(EvaluationError, match="1 scores for 2 genes"):
        draw_expression(XY, np.zeros((48, 2)), np.zeros((48, 2)), ["a", "b"], scores=[0.1])
    with pytest.raises(EvaluationError, match="different places"):
        draw_domains(XY * 0, TRUTH, PREDICTED)


def test_a_note_stands_below_in_lines_that_fit() -> None:
    note = (
        "not disjoint by patient: the paper's split (donor 'Br5292', donor 'Br5595', donor 'Br8100' in train and test)"
    )
    values = np.random.default_rng(0).random((48, 1))
    for figure in (
        draw_domains(XY, TRUTH, PREDICTED, note=note),
        draw_expression(XY, values, values, ["A"], note=note),
    ):
        assert figure.get_supxlabel().replace("\n", " ") == note
        figure.canvas.draw()
        box = figure._supxlabel.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert box.y0 >= 0
    assert draw_domains(XY, TRUTH, PREDICTED).get_supxlabel() == ""
