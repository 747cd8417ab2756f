"""Nodes of an HDF5 file: each as the kind that is asked for, or an error that names it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_prep.sources.hdf5 import open_dataset, open_group, read_array, read_text, read_texts


@pytest.fixture
def file(tmp_path: Path) -> Iterator[h5py.File]:
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["group/numbers"] = np.arange(3)
        file["group/scale"] = 0.5
        file["group/names"] = ["a", "ä"]
        file["group/name"] = "ä"
        yield file


def test_nodes_of_the_right_kind(file: h5py.File) -> None:
    group = open_group(file, "group")
    assert open_dataset(group, "numbers").shape == (3,)
    assert read_array(group, "numbers").tolist() == [0, 1, 2]
    assert float(read_array(file, "group/scale")) == 0.5
    assert read_texts(group, "names").tolist() == ["a", "ä"]
    assert read_text(group, "name") == "ä"


def test_a_node_of_another_kind_is_named(file: h5py.File) -> None:
    with pytest.raises(ValueError, match="/group/numbers is a dataset; a group is wanted"):
        open_group(file, "group/numbers")
    for read in (open_dataset, read_array, read_texts, read_text):
        with pytest.raises(ValueError, match="/group is a group; a dataset is wanted"):
            read(file, "group")
    with pytest.raises(ValueError, match="a single text is wanted"):
        read_text(file, "group/names")
    with pytest.raises(TypeError):
        read_texts(file, "group/numbers")
    with pytest.raises(KeyError, match="none"):
        open_group(file, "none")
