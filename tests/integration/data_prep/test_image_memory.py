"""How much memory reading takes: an image of its own size, a pyramid of its cache."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.data_prep.image_files import needs_proc, picture

MEASURE = """
import json, sys
import numpy as np
from pathlib import Path
import simplejpeg, tifffile, imagecodecs
from data_prep.shards.crops import compute_crop_size, cut_crop, measure_border_colour
from data_prep.images import make_thumbnail, open_image
from data_prep.slide.slide import SlideImage
def peak(): return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
warm = np.zeros((64, 64, 3), np.uint8)
tifffile.imwrite(sys.argv[2], warm, tile=(64, 64), compression="jpeg", photometric="rgb")
def visit(path, step):
    with open_image("s", SlideImage(Path(path), "fullres")) as pixels:
        fill = measure_border_colour(pixels)
        for y in range(0, pixels.height, step):
            for x in range(0, pixels.width, step):
                cut_crop(pixels, np.array([x, y]), compute_crop_size(1000, 1.0), fill)
                cut_crop(pixels, np.array([x, y]), compute_crop_size(110, 1.0), fill)
        make_thumbnail(pixels, 600)
        return pixels.width * pixels.height * 3
visit(sys.argv[2], 64)
before = peak()
decoded = visit(sys.argv[1], int(sys.argv[3]))
print(json.dumps({"peak": peak() - before, "decoded": decoded}))
"""


def memory(path: Path, step: int) -> dict[str, int]:
    """Peak memory of a process of its own over visiting an image, and the bytes of the image, decoded."""
    command = [sys.executable, "-c", MEASURE, str(path), str(path.parent / "warm.tif"), str(step)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_proc
@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_plain_image_takes_its_own_size(tmp_path: Path, kind: str) -> None:
    """6,000 x 6,000 px, 108 MB: at most one and a half times that, crops, border and thumbnail included."""
    tile = Image.fromarray(picture(600, 600))
    image = Image.new("RGB", (6000, 6000))
    for x in range(0, 6000, 600):
        for y in range(0, 6000, 600):
            image.paste(tile, (x, y))
    image.save(tmp_path / "image", kind, **({"compress_level": 1} if kind == "png" else {}))
    used = memory(tmp_path / "image", 1500)
    assert used["decoded"] == 6000 * 6000 * 3
    assert used["peak"] < 1.5 * used["decoded"]


@needs_proc
def test_a_large_pyramid_takes_no_more_than_its_cache(tmp_path: Path) -> None:
    """20,000 x 20,000 px, 1.2 GB decoded: every tile the same picture."""
    import tifffile

    tile = picture(512, 512)

    def tiles(side: int) -> Iterator[np.ndarray]:
        return (tile for _ in range((-(-side // 512)) ** 2))

    with tifffile.TiffWriter(tmp_path / "image.tif", bigtiff=True) as file:
        common = {"dtype": "uint8", "tile": (512, 512), "photometric": "rgb", "compression": "jpeg"}
        common["compressionargs"] = {"level": 30}
        file.write(tiles(20_000), shape=(20_000, 20_000, 3), subifds=2, **common)
        for shrink in (4, 16):
            file.write(tiles(20_000 // shrink), shape=(20_000 // shrink, 20_000 // shrink, 3), subfiletype=1, **common)
    used = memory(tmp_path / "image.tif", 700)
    assert used["decoded"] == 1_200_000_000
    assert used["peak"] < 400 << 20
