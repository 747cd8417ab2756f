"""Downloads, against a Hub on this machine: what is fetched, what is taken up again, and what a user is told."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from data_prep.cli.main import main
from tests.support.data_prep.fake_hub import FakeHub, serving
from tests.support.paths import REPOSITORY

BREAST, BRAIN, MIXED, GEO, MOUSE = (
    "Human_Breast_Andersson_10142021_ST_A1",
    "Human_Brain_Maynard_02082021_Visium_151674",
    "Mouse_Brain+Kidney_10X_02212023_Visium",
    "GSE158730_GSM7770348",
    "Mouse_Brain_10X_03292024_VIsiumHD",
)


def stimage_files() -> dict[str, bytes]:
    """The layout of the real repository. GEO has no image; BREAST alone has an annotation."""
    files = {
        "README.md": b"read me",
        ".gitattributes": b"*.png filter=lfs",
        "meta/meta_all_gene.csv": b"slide,tech\n" * 30,
        "meta/bib.txt": b"bib",
        f"annotation/{BREAST}_anno.csv": b",V2\n",
        "aux/other.txt": b"not wanted",
    }
    slides = {BREAST: "ST", BRAIN: "Visium", MIXED: "Visium", GEO: "Visium", MOUSE: "VisiumHD"}
    for number, (slide, technology) in enumerate(slides.items()):
        files[f"{technology}/coord/{slide}_coord.csv"] = f",yaxis,xaxis,r\n{slide}\n".encode() * 5
        files[f"{technology}/gene_exp/{slide}_count.csv"] = f"{slide},1,2,3\n".encode() * 40
        if slide != GEO:
            files[f"{technology}/image/{slide}.png"] = bytes([number]) * 6_000
    return files


def hest_files() -> dict[str, bytes]:
    """The layout of HEST-1k."""
    files = {"README.md": b"read me", "HEST_v1_1_0.csv": b"id\n" * 9, "HEST_v1_0_0.csv": b"id\n"}
    for name in ("TENX9", "TENX95", "NCBI535"):
        files |= {
            f"st/{name}.h5ad": name.encode() * 50,
            f"wsis/{name}.tif": name.encode() * 500,
            f"metadata/{name}.json": b"{}",
            f"patches/{name}.h5": b"not wanted",
        }
    return files


@pytest.fixture(autouse=True)
def plain_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy to this machine, no token of the user's."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no_token"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serving(FakeHub("jiawennnn/STimage-1K4M", stimage_files())) as hub:
        yield hub


@pytest.fixture
def hest() -> Iterator[FakeHub]:
    with serving(FakeHub("MahmoodLab/hest", hest_files(), gate="hf_right", refused="hf_other")) as hub:
        yield hub


def download(hub: FakeHub, out: Path, *options: str) -> int:
    dataset = "hest" if hub.repo.endswith("hest") else "stimage1k4m"
    return main(["download", dataset, "--out", str(out), "--endpoint", hub.endpoint, *options])


def held(out: Path) -> dict[str, bytes]:
    """What a user finds: path -> content, without huggingface_hub's own notes."""
    paths = [path for path in sorted(out.rglob("*")) if path.is_file() and ".cache" not in path.parts]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


def of(files: dict[str, bytes], *names: str) -> dict[str, bytes]:
    """The catalogue, and all files of some slides."""
    return {
        path: content
        for path, content in files.items()
        if path.startswith("meta/") or any(Path(path).name.startswith((f"{name}_", f"{name}.")) for name in names)
    }


def test_some_slides_whole(hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert download(hub, tmp_path, "--slides", "Human_Breast*", MIXED) == 0
    assert held(tmp_path) == of(hub.files, BREAST, MIXED)
    said, bars = capsys.readouterr()
    assert bars == ""
    wanted = sum(map(len, of(hub.files, BREAST, MIXED).values()))
    assert "jiawennnn/STimage-1K4M at aaaaaaaaaaaa" in said
    assert re.search(rf"together: +9 files +{wanted / 1000:.1f} kB", said)
    assert f"to fetch: {wanted / 1000:.1f} kB, as 0 B are in" in said
    assert said.index("to fetch") < said.index("are there")


def test_the_catalogue_comes_first_and_may_be_all(hub: FakeHub, tmp_path: Path) -> None:
    assert download(hub, tmp_path, "--catalogue-only") == 0
    assert held(tmp_path) == of(hub.files)
    hub.asked.clear()
    assert download(hub, tmp_path, "--slides", "*", "--no-images") == 0
    assert held(tmp_path) == {
        path: content
        for path, content in of(hub.files, BREAST, BRAIN, MIXED, GEO, MOUSE).items()
        if "/image/" not in path
    }
    assert not [asked for asked in hub.fetched() if asked.path.startswith("meta/")]  # it was there
    other = tmp_path / "other"
    hub.asked.clear()
    assert download(hub, other, "--slides", BREAST) == 0
    order = [asked.path.startswith("meta/") for asked in hub.fetched()]
    assert order == sorted(order, reverse=True)


def test_a_dry_run_fetches_nothing(hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert download(hub, tmp_path / "new", "--slides", "*", "--dry-run") == 0
    assert not (tmp_path / "new").exists()
    assert hub.fetched() == []
    said = capsys.readouterr().out
    assert "5 slides" in said
    assert "image:      4 files    24.0 kB" in said
    assert f"1 slides are incomplete in the repository, such as {GEO}, which has no image" in said


def test_a_connection_that_breaks_within_a_file_is_taken_up_where_it_broke(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1_000)  # what is kept in steps of 10 MB
    path = f"Visium/image/{BRAIN}.png"
    hub.cut[path] = 4_500
    assert download(hub, tmp_path, "--slides", BRAIN) == 0
    assert held(tmp_path) == of(hub.files, BRAIN)
    first, second = [asked for asked in hub.fetched() if asked.path == path]
    assert (first.start, first.sent) == (0, 4_500)
    assert second.start >= 4_000
    assert second.sent == 6_000 - second.start


def test_a_killed_run_goes_on_with_what_it_had_not_finished(hub: FakeHub, tmp_path: Path) -> None:
    out, wanted = tmp_path / "out", of(hub.files, BRAIN, BREAST, MOUSE)
    stalled = f"Visium/image/{BRAIN}.png"
    hub.stall[stalled] = 3_000
    arguments = ["stimage1k4m", "--out", str(out), "--endpoint", hub.endpoint, "--slides", BRAIN, BREAST, MOUSE]
    command = [sys.executable, "-m", "data_prep", "download", *arguments]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not (
            hub.stalled.is_set()
            and set(held(out)) == wanted.keys() - {stalled}
            and {asked.path for asked in hub.fetched()} == set(wanted)  # an answer is noted after it is sent
        ):
            assert process.poll() is None, "the download ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    hub.stall.clear()
    hub.release.set()
    hub.asked.clear()
    assert main(["download", *arguments]) == 0
    assert held(out) == wanted
    fetched = hub.fetched()
    assert stalled in {asked.path for asked in fetched}
    # A file whose content had come and whose note had not may be asked for again; most are not.
    assert sum(asked.sent for asked in fetched) < sum(map(len, wanted.values())) / 2


def test_what_changed_on_the_hub_is_fetched_again_and_nothing_else(hub: FakeHub, tmp_path: Path) -> None:
    assert download(hub, tmp_path, "--slides", BREAST, BRAIN) == 0
    hub.commit = "b" * 40
    changed = f"Visium/coord/{BRAIN}_coord.csv"
    hub.files[changed] = b"mended"
    hub.asked.clear()
    assert download(hub, tmp_path, "--slides", BREAST, BRAIN) == 0
    assert [asked.path for asked in hub.fetched()] == [changed]
    assert held(tmp_path) == of(hub.files, BREAST, BRAIN)


def test_only_what_a_plan_keeps(hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "slides.csv"
    rows = [f"{BREAST},yes,stimage", f"{BRAIN},no,stimage", "gone_1,yes,stimage", f"{MOUSE},yes,hest"]
    plan.write_text("\ufeffslide,kept,source\n" + "\n".join(rows) + "\n", encoding="utf-8")
    assert download(hub, tmp_path / "out", "--plan", str(plan)) == 0
    assert held(tmp_path / "out") == of(hub.files, BREAST)
    assert (
        "1 of 2 kept slides of the plan are not in jiawennnn/STimage-1K4M, such as 'gone_1'" in capsys.readouterr().out
    )
    assert download(hub, tmp_path / "none", "--plan", str(plan), "--slides", "Mouse*") == 2
    assert "none of the plan's 2 kept slides" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("name,kept\na,yes\n", "has no column 'slide'"),
        ("slide,kept\na,maybe\n", "slide 'a': kept is 'maybe'; yes or no is wanted"),
        ("slide,kept\na,no\n", "keeps no slide of stimage"),
        (None, "there is no plan"),
    ],
)
def test_a_plan_that_is_none(
    hub: FakeHub, tmp_path: Path, table: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if table is not None:
        (tmp_path / "plan.csv").write_text(table)
    assert download(hub, tmp_path / "out", "--plan", str(tmp_path / "plan.csv")) == 2
    assert said in capsys.readouterr().err
    assert hub.asked == []


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("human_brain*", f"near misses: {BRAIN}"),
        ("Human_Brest_Andersson_10142021_ST_A1", f"near misses: {BREAST}"),
        ("VIsiumHD", f"near misses: {MOUSE}"),
        ("zzzzzzzz", "there are 5, such as"),
    ],
)
def test_a_pattern_that_matches_nothing_names_what_comes_near(
    hub: FakeHub, tmp_path: Path, pattern: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download(hub, tmp_path / "out", "--slides", BREAST, pattern) == 2
    error = capsys.readouterr().err
    assert f"no slide matches {pattern!r}" in error
    assert said in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("token", ["", "hf_other"])
def test_a_gate_says_how_to_get_in(
    hest: FakeHub, tmp_path: Path, token: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    assert download(hest, tmp_path, "--slides", "TENX9") == 1
    said = capsys.readouterr()
    assert "MahmoodLab/hest is gated" in said.err
    assert f"Request access on {hest.endpoint}/datasets/MahmoodLab/hest" in said.err
    assert "`hf auth login`" in said.err
    assert "HF_TOKEN" in said.err
    assert not token or token not in said.out + said.err
    assert held(tmp_path) == {}


def test_behind_the_gate_with_a_token_that_nobody_sees(
    hest: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert download(hest, tmp_path, "--slides", "TENX9") == 0
    names = ("st/TENX9.h5ad", "wsis/TENX9.tif", "metadata/TENX9.json", "HEST_v1_1_0.csv", "HEST_v1_0_0.csv")
    assert held(tmp_path) == {name: hest.files[name] for name in names}  # TENX95 is another slide
    said = capsys.readouterr()
    assert "hf_right" not in said.out + said.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"hf_right" in path.read_bytes()]
    assert {asked.token for asked in hest.asked if asked.path.endswith("README.md")} <= {"hf_right"}
    content = [asked for asked in hest.fetched() if asked.path.endswith((".tif", ".h5ad"))]
    assert {asked.token for asked in content} == {""}  # the other host, where large files lie, is not told


def test_no_space(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000)
    monkeypatch.setattr("data_prep.download.hub.shutil.disk_usage", lambda path: usage)
    assert download(hub, tmp_path / "a" / "b", "--slides", "*") == 1
    assert f"{tmp_path} has 1.0 kB free" in capsys.readouterr().err
    assert hub.fetched() == []


def test_a_file_that_is_shorter_than_listed_is_an_error(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.listed["meta/bib.txt"] = 99
    assert download(hub, tmp_path, "--catalogue-only") == 1
    assert "1 of 2 files are not there in full, such as" in capsys.readouterr().err


def test_what_a_killed_run_left_is_named(hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = tmp_path / ".cache/huggingface/download/Visium/image/x.incomplete"
    left.parent.mkdir(parents=True)
    left.write_bytes(bytes(2_000))
    assert download(hub, tmp_path, "--catalogue-only") == 0
    assert "2.0 kB of half fetched files lie in" in capsys.readouterr().out


def test_an_endpoint_that_nobody_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(FakeHub("jiawennnn/STimage-1K4M", {})) as gone:
        pass
    assert download(gone, tmp_path / "out", "--catalogue-only") == 1
    assert f"cannot reach {gone.endpoint}" in capsys.readouterr().err


def test_offline_is_named(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert download(hub, tmp_path, "--catalogue-only") == 1
    assert "HF_HUB_OFFLINE is set" in capsys.readouterr().err


def test_an_endpoint_that_is_no_hub(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>welcome</html>")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        call = ["download", "hest", "--out", str(tmp_path), "--catalogue-only", "--endpoint", address]
        assert main(call) == 1
        assert f"{address} does not answer as a Hugging Face Hub does" in capsys.readouterr().err
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_hub_without_the_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(FakeHub("someone/else", {})) as hub:
        call = ["download", "hest", "--out", str(tmp_path), "--catalogue-only", "--endpoint", hub.endpoint]
        assert main(call) == 1
    assert f"{hub.endpoint} has no dataset MahmoodLab/hest" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--catalogue-only", "--slides", "*"], ["--no-images"]])
def test_what_to_fetch_has_to_be_said(
    hub: FakeHub, tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert download(hub, tmp_path, *options) == 2
    assert "--slides '*' is all of it" in capsys.readouterr().err


def test_an_endpoint_needs_a_scheme(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["download", "hest", "--out", str(tmp_path), "--catalogue-only", "--endpoint", "hub.example.org"]
    assert main(call) == 2
    assert "endpoint is 'hub.example.org'" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
