"""Remote shard sets: fetched once, checked, read as local ones are; refused without telling secrets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import torch
from lightning import Trainer

from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.epoch.plan import Composition
from stalign_pl.data.genes.selection import GeneSelection
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.shards.remote import RemoteSource
from stalign_pl.data.shards.section import read_section
from stalign_pl.data.shards.shard_set import ShardSet
from stalign_pl.data.shards.staging import Staging, open_shards
from stalign_pl.errors import ConfigError, ShardError
from tests.support.paths import REPOSITORY
from tests.support.runs import arguments, run_here
from tests.support.shard_server import ShardServer

FIRST = ["manifest.json", "genes.tsv"]


def prepared(shards: str, stage_to: Path | None, keep: bool = True) -> STAlignData:
    """The data of P1, who trains, with P2 and P3 held out, ready to be read."""
    given = {"val_patients": ["P2"], "test_patients": ["P3"], "threads": 1, "stage_keep": keep}
    niche, genes = NicheConfig(k=3, rings=1), GeneSelection(n=30)
    batch = Composition(slides=2, spots=8, run=4)
    staged = None if stage_to is None else str(stage_to)
    data = STAlignData(shards, 32, 32, composition=batch, niche=niche, genes=genes, stage_to=staged, **given)
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert len(data.vocabulary) == 30  # as when a model is made for it, before anything is staged
    data.prepare_data()
    data.setup("fit")
    return data


def leaves(value: object) -> list[bytes]:
    """The bytes of all tensors in a batch."""
    if isinstance(value, torch.Tensor):
        return [value.numpy().tobytes()]
    parts = fields(value) if is_dataclass(value) else ()
    return [leaf for part in parts for leaf in leaves(getattr(value, part.name))]


def batches(data: STAlignData) -> list[list[bytes]]:
    held_out = {number: slide for part in (data.val_slides, data.test_slides) for number, slide in part.items()}
    loaders = (data.train_dataloader(), data._evaluation_loader(held_out))
    return [leaves(batch) for loader in loaders for batch in loader]


def command(folder: Path) -> str:
    return f"pipe:cat {folder}/{{}}"


@pytest.mark.parametrize("kind", ["http", "pipe"])
def test_batches_are_those_of_the_local_set(
    kind: str, server: ShardServer, tiny_shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shards = server.url if kind == "http" else command(tiny_shards)
    here, there = prepared(str(tiny_shards), None), prepared(shards, tmp_path)
    assert there.vocabulary.digest() == here.vocabulary.digest()
    assert there.content == here.content
    assert len(batches(there)) > 2
    assert batches(there) == batches(here)
    assert there.shard_set.folder == tmp_path / f"set-{here.shard_set.digest()[:12]}"
    there.teardown("fit")
    printed = capfd.readouterr()
    assert shards not in printed.out + printed.err


def test_each_file_is_fetched_once_and_a_second_start_asks_for_the_manifest_alone(
    server: ShardServer, tmp_path: Path
) -> None:
    first = prepared(server.url, tmp_path)
    files = {name for slide in first.used_slides.values() for name in slide.record.files}
    assert server.asked[:3] == [*FIRST, first.shard_set.slides[0].record.panel]
    assert sorted(server.asked) == sorted([*FIRST, *files])
    first.teardown("fit")
    server.asked.clear()
    prepared(server.url, tmp_path).teardown("fit")
    assert server.asked == ["manifest.json"]


def test_a_file_is_fetched_when_it_is_first_read(server: ShardServer, tiny_shards: Path, tmp_path: Path) -> None:
    shards = open_shards(server.url, Staging(tmp_path))
    server.asked.clear()
    counts = [(shards.slides[0].counts == ShardSet(tiny_shards).slides[0].counts).all() for _ in range(2)]
    assert counts == [True, True]
    assert read_section(shards.slides[1]).name == "tiny_2"
    assert shards.slides[1].tar_of(5).read_bytes() == (tiny_shards / "tiny_2.tar").read_bytes()
    assert server.asked == ["tiny_1.counts.npy", "tiny_2.h5ad", "tiny_2.index.npy", "tiny_2.tar"]


def test_a_changed_set_is_another_copy(own: ShardServer, tmp_path: Path) -> None:
    first = open_shards(own.url, Staging(tmp_path / "disk")).folder
    own.edit_manifest(lambda record: record["files"]["tiny_1.tar"].update(sha256="0" * 64))
    assert open_shards(own.url, Staging(tmp_path / "disk")).folder != first


def test_an_interrupted_start_goes_on(server: ShardServer, tmp_path: Path) -> None:
    folder = open_shards(server.url, Staging(tmp_path)).folder
    (folder / "genes.tsv").write_text("half")
    (folder / ".tiny_1.tar.abc.tmp").write_text("of a killed fetcher")
    (folder / "tiny_2.tar").write_text("cut")
    server.asked.clear()
    prepared(server.url, tmp_path)
    assert server.asked[:2] == FIRST
    assert server.asked.count("tiny_2.tar") == 1
    assert not list(folder.glob(".*"))


def test_two_processes_fetch_every_file_once_and_the_last_removes_it(server: ShardServer, tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from stalign_pl.data.shards.staging import Staging, open_shards
there = Staging(Path(sys.argv[2]), keep=False)
shards = open_shards(sys.argv[1], there)
[slide.counts for slide in shards.slides.values()]
there.copy(shards, shards.slides)
there.use(shards, shards.slides)
print("ready", flush=True)
input()
there.release()
"""
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": REPOSITORY}
    both = [
        subprocess.Popen([sys.executable, "-c", code, server.url, str(tmp_path)], **options, env={**os.environ})
        for _ in range(2)
    ]
    try:
        assert [process.stdout.readline().strip() for process in both] == ["ready"] * 2
        for process in both:
            process.communicate("\n", timeout=120)
            assert process.returncode == 0
    finally:
        for process in both:
            process.kill()
    assert server.asked.count("manifest.json") == 2
    files = [name for name in server.asked if name != "manifest.json"]
    assert len(files) == len(set(files)) == 2 + 4 * 3
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock", ".lock"]


@pytest.mark.parametrize("fault", ["corrupt", "cut"])
def test_a_wrong_file_is_fetched_once_more_and_then_named(fault: str, server: ShardServer, tmp_path: Path) -> None:
    getattr(server, fault)("tiny_1.tar", 1)
    data = prepared(server.url, tmp_path / "once")
    assert server.asked.count("tiny_1.tar") == 2
    assert (data.shard_set.folder / "tiny_1.tar").read_bytes() == server.content("tiny_1.tar")
    getattr(server, fault)("tiny_1.tar", 2)
    got = {"corrupt": r"1,146,880 bytes with [0-9a-f]{12}$", "cut": r"573,440 bytes with .*: the transfer was cut\)$"}
    wanted = rf"^{server.url}/tiny_1\.tar is not .*: wanted 1,146,880 bytes with the SHA-256 [0-9a-f]{{12}}; got "
    with pytest.raises(ShardError, match=wanted + got[fault]):
        prepared(server.url, tmp_path / "twice")
    (folder,) = (path for path in (tmp_path / "twice").iterdir() if path.is_dir())
    assert not list(folder.glob("*tiny_1.tar*"))
    assert not list(folder.glob(".*"))


def test_a_cut_manifest_is_fetched_once_more(server: ShardServer, tmp_path: Path) -> None:
    server.cut("manifest.json", 1)
    assert len(open_shards(server.url, Staging(tmp_path)).slides) == 3
    assert server.asked[:2] == ["manifest.json"] * 2


def test_more_bytes_than_the_manifest_says_are_not_taken(tiny_shards: Path, tmp_path: Path) -> None:
    endless = f"pipe:cat {tiny_shards}/{{}}; case {{}} in *.tar) yes;; esac"
    shards = open_shards(endless, Staging(tmp_path))
    with pytest.raises(ShardError, match=r"tiny_1\.tar is not the file.*wanted 1,146,880 bytes.*; got more$"):
        shards.slides[0].tar_of(0)


@pytest.mark.parametrize("name", ["manifest.json", "genes.tsv", "tiny_2.index.npy"])
def test_what_is_not_there_is_named(name: str, server: ShardServer, tmp_path: Path) -> None:
    server.missing.add(name)
    with pytest.raises(ShardError, match=rf"{name}.*curl ended with status 22: the server answered with an error"):
        prepared(server.url, tmp_path)


def test_a_command_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"set pipe:exit \.\.\. SET/\{\}.*the command ended with status 3$"):
        open_shards("pipe:exit 3 SET/{}", Staging(tmp_path))


def test_a_manifest_that_leads_out_of_the_set_ends_it_there(own: ShardServer, tmp_path: Path) -> None:
    own.edit_manifest(lambda record: record.update(panel="../x"))
    with pytest.raises(ShardError, match=rf"manifest\.json of {own.url}: slide 'tiny_1' names the file '\.\./x'"):
        open_shards(own.url, Staging(tmp_path / "disk"))
    assert set(own.asked) == {"manifest.json"}
    assert not (tmp_path / "disk").exists()


def test_a_gene_table_that_is_not_the_manifests_is_refused(own: ShardServer, tmp_path: Path) -> None:
    path = own.folder / "genes.tsv"
    path.write_text(path.read_text().replace("\t", "\tX", 9).replace("\tXensembl_id\tXsymbol", "\tensembl_id\tsymbol"))
    with pytest.raises(ShardError, match=r"/set/genes\.tsv is not.*wanted the gene table with the digest"):
        open_shards(own.url, Staging(tmp_path / "disk"))


@pytest.mark.parametrize(
    ("shards", "named"),
    [
        ("pipe:aws s3 cp s3://bucket/set/ -", ["{} is wanted", "pipe:aws s3 cp s3://bucket/set/{} -"]),
        ("s3://ann:SECRET@bucket/set", ["begins with s3://", "https://", "pipe:aws s3 cp"]),
        ("https:///set", ["https:///set", "https://HOST/SET"]),
        ("https://ann:SEC#RET@host/set", ["https://...", "%23"]),
    ],
)
def test_an_address_that_is_not_understood_is_refused(shards: str, named: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        open_shards(shards, Staging(tmp_path))
    assert all(part in str(caught.value) for part in named)
    assert "SEC" not in str(caught.value)


def test_the_staged_set_is_called_by_its_folder() -> None:
    for address, name in (
        ("https://host/a/set/?sig=SECRET", "set"),
        ("https://ann:SECRET@host", "shards"),
        ("pipe:aws s3 cp s3://bucket/set/{} -", "set"),
        ("pipe:curl 'https://ann:SECRET@host/{}?sig=SECRET'", "host"),
        ("https://host/%2E%2E/", "slide"),
    ):
        assert RemoteSource(address).name.split("-")[0] == name


def test_a_query_goes_to_every_file_and_no_secret_into_messages(
    server: ShardServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.missing.add("tiny_1.tar")
    url = server.url.replace("http://", "http://ann:SECRET@") + "?sig=SECRET"
    given = arguments("fit", Path("unused"), tmp_path / "runs", "--data.stage_to", str(tmp_path / "disk"))
    given[given.index("unused")] = url
    assert run_here(*given) == 1
    assert set(server.queries) == {"sig=SECRET"}
    printed = capfd.readouterr()
    assert f"{server.url}/tiny_1.tar is not the file" in printed.err.splitlines()[-1]
    assert "SECRET" not in printed.out + printed.err
    assert not list(tmp_path.rglob("*SECRET*"))


def test_curl_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"data\.shards is http://host/set, .*no curl on PATH: install it"):
        open_shards("http://ann:SECRET@host/set", Staging(tmp_path))


def test_webdatasets_own_settings_hold(tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPEN_REWRITE", f"https://host/set={tiny_shards}")
    assert len(open_shards("https://host/set", Staging(tmp_path)).slides) == 3
    monkeypatch.setenv("GOPEN_REWRITE", f"https://host/set={tmp_path}")
    with pytest.raises(ShardError, match=r"manifest\.json of the shard set https://host/set cannot be fetched"):
        open_shards("https://host/set", Staging(tmp_path))
    monkeypatch.setattr("webdataset.utils.enforce_security", True)
    with pytest.raises(ConfigError, match=r"data\.shards is pipe:cat \.\.\. set/\{\}, which webdataset refuses"):
        open_shards("pipe:cat set/{}", Staging(tmp_path))


def test_a_full_disk_is_refused_before_the_first_byte(
    server: ShardServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = open_shards(server.url, Staging(tmp_path))
    server.asked.clear()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("usage", (), {"free": 1000}))
    with pytest.raises(ConfigError, match=r"data\.stage_to: .* GB left: name another folder$"):
        Staging(tmp_path).copy(shards, shards.slides)
    assert server.asked == []
