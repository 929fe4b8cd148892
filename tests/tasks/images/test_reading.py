"""Image files of every mode become the same uint8 arrays."""

import numpy as np
import pytest
from PIL import Image

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.reading import Preprocessing, image_size, read_image
from tests.helpers.image_files import drawing, noise, save


def read(path, *, size=8, channels=3, invert=False, **options):
    return read_image(path, size=size, channels=channels, invert=invert, **options)


def test_rgb_image_of_the_right_size_is_read_unchanged(tmp_path):
    array = noise(8, 8, 3)
    np.testing.assert_array_equal(read(save(tmp_path / "a.png", array)), array)


def test_invert_exchanges_bright_and_dark(tmp_path):
    array = noise(8, 8)
    result = read(save(tmp_path / "a.png", array), channels=1, invert=True)
    np.testing.assert_array_equal(result[..., 0], 255 - array)


def test_grey_image_has_three_equal_channels_as_rgb(tmp_path):
    result = read(save(tmp_path / "a.png", noise(8, 8)))
    assert result.shape == (8, 8, 3)
    assert (result == result[..., :1]).all()


def test_one_bit_image_is_0_and_255(tmp_path):
    Image.fromarray(drawing(8 + 4)).convert("1").save(tmp_path / "a.png")
    assert set(np.unique(read(tmp_path / "a.png", size=12, channels=1))) == {0, 255}


def test_resizing_is_lanczos_on_grey_values_and_inversion_comes_after(tmp_path):
    page = drawing(105, seed=1)
    Image.fromarray(page).convert("1", dither=Image.Dither.NONE).save(tmp_path / "a.png")
    expected = 255 - np.asarray(Image.fromarray(page).resize((28, 28), Image.Resampling.LANCZOS))
    result = read(tmp_path / "a.png", size=28, channels=1, invert=True)
    np.testing.assert_array_equal(result[..., 0], expected)


def test_palette_image_has_the_colours_of_its_palette(tmp_path):
    array = np.zeros((8, 8, 3), np.uint8)
    array[:4] = (10, 200, 30)
    Image.fromarray(array).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), array)


def test_palette_image_with_transparency_is_laid_on_white(tmp_path):
    array = np.zeros((8, 8, 3), np.uint8)
    array[:4] = (10, 200, 30)
    image = Image.fromarray(array).convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    transparent = image.getpixel((0, 7))
    image.save(tmp_path / "a.png", transparency=transparent)
    result = read(tmp_path / "a.png")
    assert (result[4:] == 255).all()
    assert (result[:4] == (10, 200, 30)).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_on_white(tmp_path, mode):
    image = Image.fromarray(np.zeros((8, 8), np.uint8)).convert(mode)
    alpha = np.zeros((8, 8), np.uint8)
    alpha[:4] = 255
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "a.png")
    result = read(tmp_path / "a.png", channels=1)
    assert (result[:4] == 0).all()
    assert (result[4:] == 255).all()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bit_values_are_scaled_to_8_bits(tmp_path, suffix):
    values = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / f"a{suffix}")
    result = read(tmp_path / f"a{suffix}", channels=1)
    # 65535 / 255 = 257: the nearest 8-bit value is at most half a step away.
    assert np.abs(result[..., 0] - values / 257).max() <= 0.5


def test_cmyk_image_is_read_as_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    assert read(tmp_path / "a.tif")[0, 0].tolist() == [255, 0, 0]


def test_exif_orientation_is_applied(tmp_path):
    array = noise(8, 8, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the picture must be turned clockwise
    save(tmp_path / "a.png", array, exif=exif)
    np.testing.assert_array_equal(read(tmp_path / "a.png"), np.rot90(array, k=-1))


@pytest.mark.parametrize("suffix", [".bmp", ".gif", ".webp", ".ppm", ".tga", ".jpg"])
def test_common_formats_are_read(tmp_path, suffix):
    grey = np.full((8, 8), 200, np.uint8)
    assert abs(int(read(save(tmp_path / f"a{suffix}", grey), channels=1).mean()) - 200) <= 2


def test_first_frame_of_an_animation_is_read(tmp_path):
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (50, 150)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read(tmp_path / "a.gif", channels=1) == 50).all()


def test_content_decides_the_format_and_the_name_does_not(tmp_path):
    array = noise(8, 8, 3)
    save(tmp_path / "a.png", array).rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read(tmp_path / "a.jpg"), array)


def test_center_crop_keeps_the_middle_square(tmp_path):
    array = noise(8, 20, 3)
    np.testing.assert_array_equal(read(save(tmp_path / "a.png", array)), array[:, 6:14])


def test_stretch_keeps_the_whole_picture(tmp_path):
    array = np.zeros((8, 16), np.uint8)
    array[:, 8:] = 255
    result = read(save(tmp_path / "a.png", array), channels=1, fit="stretch")
    assert result[:, 0].max() == 0
    assert result[:, -1].min() == 255


def test_unknown_fit_is_refused(tmp_path):
    with pytest.raises(DataError, match="center-crop, stretch"):
        read(save(tmp_path / "a.png", noise(8, 8)), fit="squash")


def test_text_called_png_is_refused(tmp_path):
    (tmp_path / "a.png").write_text("not a picture")
    with pytest.raises(DataError, match="no known image format"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".tif", ".webp"])
def test_image_cut_off_anywhere_is_read_or_refused(tmp_path, suffix):
    content = save(tmp_path / f"whole{suffix}", noise(8, 8, 3)).read_bytes()
    num_refused = 0
    for length in range(0, len(content), max(1, len(content) // 40)):
        (tmp_path / f"cut{suffix}").write_bytes(content[:length])
        try:
            assert read(tmp_path / f"cut{suffix}").shape == (8, 8, 3)
        except DataError:
            num_refused += 1
    assert num_refused > 0


def test_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="FileNotFoundError"):
        read(tmp_path / "a.png")


def test_picture_too_large_to_unfold_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr("mamlcli.tasks.images.decoding.MAX_PIXELS", 100)
    with pytest.raises(DataError, match="11 x 10 pixels"):
        read(save(tmp_path / "a.png", noise(10, 11)))


def test_decompression_bomb_is_refused(tmp_path):
    # 200 million white pixels, a file of some 25 kB.
    Image.new("1", (20_000, 10_000), 1).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="a picture of more than 178956970 pixels"):
        read(tmp_path / "a.png")


def test_floating_point_image_is_refused(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="floating-point"):
        read(tmp_path / "a.tif")


def test_image_size_is_read_from_the_header(tmp_path):
    assert image_size(save(tmp_path / "a.png", noise(5, 9))) == (9, 5)


def test_preprocessing_survives_as_primitives(tmp_path):
    preprocessing = Preprocessing(size=8, channels=1, invert=True, fit="stretch")
    assert Preprocessing(**preprocessing.to_dict()) == preprocessing
    path = save(tmp_path / "a.png", noise(9, 7))
    expected = read(path, channels=1, invert=True, fit="stretch")
    np.testing.assert_array_equal(preprocessing.read(path), expected)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3000, 1), (1, 3000), (9000, 20)])
def test_pictures_of_one_pixel_and_panoramas_are_read(tmp_path, width, height):
    path = save(tmp_path / "a.png", np.full((height, width, 3), 77, dtype=np.uint8))
    assert (read_image(path, size=8, channels=3, invert=False) == 77).all()


@pytest.mark.parametrize(("mode", "value"), [("F", 0.5), ("I", 70000), ("I", -1)])
def test_pixels_without_a_known_range_are_refused_with_the_remedy(tmp_path, mode, value):
    Image.new(mode, (8, 8), value).save(tmp_path / "a.tif")
    with pytest.raises(
        DataError, match=r"got (floating-point pixels|pixel values beyond 16).*save the image with 8 or"
    ):
        read_image(tmp_path / "a.tif", size=8, channels=1, invert=False)
