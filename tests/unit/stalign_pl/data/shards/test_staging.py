"""Staging: copied once by whoever comes first, read there by all, resumable, refused when it cannot be right."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.data.shards import staging as staging_module
from stalign_pl.data.shards.shard_set import ShardSet
from stalign_pl.data.shards.staging import Staging
from stalign_pl.errors import ConfigError, ShardError
from tests.support.paths import REPOSITORY
from tests.support.runs import arguments, run_here


def opened(shards: ShardSet) -> BatchReader:
    return BatchReader(shards.slides, NicheConfig())


def read(shards: ShardSet) -> tuple[bytes, bytes]:
    batch = opened(shards).read(np.zeros(9, np.int64), np.arange(9), epoch=0)
    return batch.niche_image.numpy().tobytes(), batch.niche_counts.count.numpy().tobytes()


def files_of(shards: ShardSet, *numbers: int) -> dict[str, dict]:
    return {name: file for number in numbers for name, file in shards.slides[number].record.files.items()}


def test_the_slides_asked_for_are_copied_and_read_there(tiny_shards: Path, tmp_path: Path) -> None:
    here = ShardSet(shutil.copytree(tiny_shards, tmp_path / "set"))
    wanted = read(here)
    staging, slides = Staging(tmp_path / "disk"), {0: here.slides[0], 2: here.slides[2]}
    folder = staging.copy(here, slides)
    assert folder == tmp_path / "disk" / f"set-{here.digest()[:12]}"
    assert {path.name for path in folder.iterdir()} == set(files_of(here, 0, 2))
    staging.use(here, slides)
    shutil.rmtree(here.folder)
    assert read(here) == wanted
    staging.release()
    assert folder.is_dir()


def test_a_cut_off_copy_goes_on_where_it_was(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ShardSet(tiny_shards)
    staging = Staging(tmp_path)
    folder = staging.copy(here, {0: here.slides[0]})
    staging.release()
    tar, counts = folder / "tiny_1.tar", folder / "tiny_1.counts.npy"
    tar.write_bytes(tar.read_bytes()[:-1])
    left = folder / ".tiny_1.tar.abc.tmp"  # of a copier that was killed
    left.write_bytes(b"half")
    copied, copy = [], staging_module._copy
    monkeypatch.setattr(
        staging_module, "_copy", lambda source, name, *rest: copied.append(name) or copy(source, name, *rest)
    )
    before = counts.stat().st_mtime_ns
    staging.copy(here, here.slides)
    assert sorted(copied) == sorted({"tiny_1.tar", *files_of(here, 1, 2)} - set(files_of(here, 0)) | {"tiny_1.tar"})
    assert counts.stat().st_mtime_ns == before
    assert tar.read_bytes() == (tiny_shards / "tiny_1.tar").read_bytes()
    assert not left.exists()
    staging.release()


def test_a_file_that_is_not_the_manifests_is_refused(tiny_shards: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_shards, tmp_path / "set"))
    here = ShardSet(folder)
    tar = bytearray((folder / "tiny_2.tar").read_bytes())
    tar[4000] ^= 1
    (folder / "tiny_2.tar").write_bytes(tar)
    staging = Staging(tmp_path / "disk")
    with pytest.raises(ShardError, match=r"tiny_2\.tar does not have the manifest's checksum"):
        staging.copy(here, {1: here.slides[1]})
    assert not list(staging.folder(here).glob("*tiny_2.tar*"))
    with pytest.raises(ShardError, match="staging did not end well"):
        staging.use(here, {1: here.slides[1]})


def test_a_full_disk_is_refused_before_the_first_byte(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ShardSet(tiny_shards)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9, 9, 1000))
    with pytest.raises(ConfigError, match=r"data\.stage_to: .* GB left"):
        Staging(tmp_path).copy(here, here.slides)
    assert not any(path.is_file() for path in Staging(tmp_path).folder(here).iterdir())


def test_the_last_of_several_removes_what_is_not_kept(tiny_shards: Path, tmp_path: Path) -> None:
    sets = [ShardSet(tiny_shards) for _ in range(2)]
    one, two = (Staging(tmp_path, keep=False) for _ in sets)
    folder = one.copy(sets[0], sets[0].slides)
    one.use(sets[0], sets[0].slides)
    two.copy(sets[1], sets[1].slides)  # waits for nobody who only reads
    two.use(sets[1], sets[1].slides)
    one.release()
    assert folder.is_dir()
    wanted = read(sets[1])
    two.release()
    assert not folder.exists()
    assert read(ShardSet(tiny_shards)) == wanted


def test_two_processes_copy_every_file_once(tiny_shards: Path, tmp_path: Path) -> None:
    """Both ask at once; what each copied is printed: together every file, none twice."""
    code = """
import sys
from pathlib import Path
from stalign_pl.data.shards import staging
from stalign_pl.data.shards.shard_set import ShardSet
copy = staging._copy
staging._copy = lambda source, name, *rest: print(name, flush=True) or copy(source, name, *rest)
shards = ShardSet(sys.argv[1])
there = staging.Staging(Path(sys.argv[2]), keep=False)
there.copy(shards, shards.slides)
there.use(shards, shards.slides)
print("ready", flush=True)
input()
there.release()
"""
    command = [sys.executable, "-c", code, str(tiny_shards), str(tmp_path)]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": REPOSITORY}
    both = [subprocess.Popen(command, **options) for _ in range(2)]
    printed = []
    try:
        for process in both:
            printed += list(iter(lambda process=process: process.stdout.readline().strip(), "ready"))
        for process in both:  # the first ends while the second still reads
            assert process.communicate("\n", timeout=120)[0] == ""
            assert process.returncode == 0
    finally:
        for process in both:
            process.kill()
    assert sorted(printed) == sorted(files_of(ShardSet(tiny_shards), 0, 1, 2))
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock", ".lock"]


def test_fit_reads_the_copy_of_its_train_and_validation_slides(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens, open_ = [], os.open
    monkeypatch.setattr(os, "open", lambda path, *rest, **more: opens.append(str(path)) or open_(path, *rest, **more))
    disk = tmp_path / "disk"
    given = ("--data.stage_to", str(disk), "--trainer.max_steps", "2", "--trainer.num_sanity_val_steps", "0")
    given = (*given, "--data.stain", "none", "--trainer.limit_val_batches", "0", "--checkpoint.monitor", "null")
    assert run_here(*arguments("fit", tiny_shards, tmp_path / "runs", *given)) == 0
    tars = {path for path in opens if path.endswith(".tar")}
    (folder,) = (path for path in disk.iterdir() if path.is_dir())
    assert str(folder / "tiny_1.tar") in tars
    assert all(Path(path).parent == folder for path in tars)
    assert [(folder / f"tiny_{number}.tar").exists() for number in (1, 2, 3)] == [True, True, False]
