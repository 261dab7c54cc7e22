"""Pixel values to files."""

import pytest
import torch
from PIL import Image

from inference.samples.digits import picture


def walk(steps, count=4):
    return [torch.full((count, 8, 8), -1 + 2 * step / max(steps - 1, 1)) for step in range(steps)]


def test_a_png_is_large_enough_to_look_at_and_gray(tmp_path):
    picture.write_png(tmp_path / "digit.png", torch.ones(1, 8, 8))
    with Image.open(tmp_path / "digit.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (384, 384))
        assert image.getpixel((192, 192)) == 255
        assert image.getpixel((0, 0)) == 0


@pytest.mark.parametrize(
    ("count", "size"), [(1, (384, 384)), (2, (384, 192)), (4, (384, 384)), (5, (384, 256)), (16, (384, 384))]
)
def test_samples_fill_the_squarest_grid(count, size):
    assert picture.sheet(torch.zeros(count, 8, 8), side=384).size == size


def test_a_gif_shows_every_state_and_holds_the_last(tmp_path):
    picture.write_gif(tmp_path / "digit.gif", walk(steps=31))
    with Image.open(tmp_path / "digit.gif") as image:
        assert (image.format, image.n_frames, image.info["loop"]) == ("GIF", 31, 0)
        image.seek(30)
        assert image.info["duration"] == picture.HOLD_MS


def test_a_gif_of_noise_stays_far_below_a_megabyte(tmp_path):
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(4, 8, 8, generator=generator) for _ in range(picture.MAX_FRAMES)]
    picture.write_gif(tmp_path / "digit.gif", noise)
    assert (tmp_path / "digit.gif").stat().st_size < 1_500_000


def test_a_long_walk_is_thinned_but_keeps_its_first_and_last_state():
    states = walk(steps=201)
    kept = picture.thinned(states)
    assert len(kept) == picture.MAX_FRAMES
    assert kept[0] is states[0]
    assert kept[-1] is states[-1]


def test_values_beyond_the_range_are_clamped_not_wrapped():
    image = picture.enlarged(torch.tensor([[-3.0, 3.0], [3.0, -3.0]]), side=2)
    assert [image.getpixel(place) for place in [(0, 0), (1, 0), (0, 1), (1, 1)]] == [0, 255, 255, 0]
