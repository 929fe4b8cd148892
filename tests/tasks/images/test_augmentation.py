"""What is done to images at random: beside torchvision, beside loops over pixels, and of which draws."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.transforms.v2 import functional

from mamlcli.tasks.images.augmentation import NUM_DRAWS, augmented, draw_augmentations, padding_of
from tests.helpers.numerics import DOUBLE

ALL = ("flip", "crop", "colour")
ORDERS = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]


def images(num, side=32, *, seed=0):
    """Return images with light, colour and structure, [num, 3, side, side] uint8."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num, 3, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    return (255 * smooth).to(torch.uint8)


def draws(num, *, seed=1):
    return draw_augmentations(num, torch.Generator().manual_seed(seed))


def by_torchvision(image, numbers, names):
    """Return one image as torchvision crops, jitters and mirrors it for the same drawn numbers, float64."""
    flip, row, column, *strengths, order = numbers.tolist()
    if "crop" in names:
        side = image.shape[-1]
        pad = padding_of(side)
        top, left = math.floor(row * (2 * pad + 1)), math.floor(column * (2 * pad + 1))
        image = functional.crop(functional.pad(image, [pad]), top, left, side, side)
    image = image.to(DOUBLE) / 255
    if "colour" in names:
        change = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)
        for kind in ORDERS[math.floor(6 * order)]:
            image = change[kind](image, 0.6 + 0.8 * strengths[kind])
    return functional.horizontal_flip(image) if "flip" in names and flip < 0.5 else image


@pytest.mark.parametrize("side", [28, 32, 84])
@pytest.mark.parametrize("names", [("flip",), ("crop",), ("flip", "crop")])
def test_crop_and_flip_are_those_of_torchvision(names, side):
    x, numbers = images(12, side), draws(12)
    expected = torch.stack([by_torchvision(*pair, names) for pair in zip(x, numbers, strict=True)])
    assert torch.equal(augmented(x, numbers, names, DOUBLE), expected)


@pytest.mark.parametrize("names", [("colour",), ALL])
def test_colour_is_that_of_torchvision(names):
    x, numbers = images(40), draws(40)
    assert {math.floor(6 * number) for number in numbers[:, 6].tolist()} == set(range(6))  # every order
    expected = torch.stack([by_torchvision(*pair, names) for pair in zip(x, numbers, strict=True)])
    # torchvision's red counts 0.2989, and its mean grey is not of whole levels: off by at most 1e-4 and 0.5 / 255, of
    # which contrast takes 0.4, and brightness and saturation up to 1.4 times as much each.
    torch.testing.assert_close(augmented(x, numbers, names, DOUBLE), expected, rtol=0, atol=0.4 * 1.4**2 * 2.1e-3)


def by_loops(image, strengths, order):
    """Return one image recoloured pixel by pixel, with numbers of Python."""
    pixels = [[[channel / 255 for channel in pixel] for pixel in row] for row in image.permute(1, 2, 0).tolist()]
    for kind in order:
        greys = [[0.299 * red + 0.587 * green + 0.114 * blue for red, green, blue in row] for row in pixels]
        levels = [round(255 * grey) for row in greys for grey in row]
        mean, strength = sum(levels) / len(levels) / 255, strengths[kind]
        for row, greys_of_row in zip(pixels, greys, strict=True):
            for pixel, grey in zip(row, greys_of_row, strict=True):
                target = (0.0, mean, grey)[kind]
                pixel[:] = [min(max(strength * value + (1 - strength) * target, 0.0), 1.0) for value in pixel]
    return torch.tensor(pixels, dtype=DOUBLE).permute(2, 0, 1)


@pytest.mark.parametrize("order", range(6))
def test_colour_is_what_a_loop_over_pixels_makes_in_every_order(order):
    x, numbers = images(3, 8), draws(3, seed=order)
    numbers[:, 6] = (order + 0.5) / 6
    found = augmented(x, numbers, ("colour",), DOUBLE)
    for image, of_image, row in zip(x, found, numbers.tolist(), strict=True):
        expected = by_loops(image, [0.6 + 0.8 * number for number in row[3:6]], ORDERS[order])
        torch.testing.assert_close(of_image, expected, rtol=1e-12, atol=1e-12)  # a few roundings of numbers near 1


def test_extreme_draws_are_the_extreme_places_and_strengths():
    x = images(2)
    x[:, :, 0, 0] = 77
    numbers = torch.full((2, NUM_DRAWS), 0.5, dtype=DOUBLE)
    numbers[0, 1:3], numbers[1, 1:3] = 0.0, 1 - 2.0**-53  # the smallest and the largest number that is drawn
    first, last = augmented(x, numbers, ("crop",), DOUBLE)
    assert torch.equal(first[:, 4:, 4:] * 255, x[0, :, :28, :28].to(DOUBLE))
    assert float(first[:, :4].sum() + first[:, :, :4].sum()) == 0.0  # the margin is black
    assert torch.equal(last[:, :28, :28] * 255, x[1, :, 4:, 4:].to(DOUBLE))
    numbers[0, 3:], numbers[1, 3:] = 0.0, 1 - 2.0**-53
    dark, bright = augmented(torch.full_like(x, 100), numbers, ("colour",), DOUBLE) * 255
    # On an even grey, contrast and saturation change nothing.
    torch.testing.assert_close(dark, torch.full_like(dark, 60))
    torch.testing.assert_close(bright, torch.full_like(bright, 140))


def test_padding_is_that_of_the_source():
    assert {side: padding_of(side) for side in (28, 32, 84, 224)} == {28: 3, 32: 4, 84: 8, 224: 8}


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_values_stay_between_black_and_white(dtype):
    x = augmented(images(50), draws(50), ALL, dtype)
    assert x.dtype == dtype
    assert float(x.min()) == 0.0
    assert float(x.max()) <= 1.0


def test_places_strengths_and_mirror_images_are_uniform():
    # 4000 draws: counts of 9 places are 444 +- 20 each, of mirrored 2000 +- 32; bounds at five standard deviations.
    num = 4000
    numbers = draws(num)
    x = torch.zeros(num, 3, 32, 32, dtype=torch.uint8)
    x[:, :, 16, 15] = 255
    moved = augmented(x, numbers, ("crop",), torch.float32)
    places = moved[:, 0].flatten(1).argmax(1)
    for counts in (torch.bincount(places // 32)[12:21], torch.bincount(places % 32)[11:20]):
        assert counts.sum() == num
        assert (counts - num / 9).abs().max() < 5 * 20
    mirrored = augmented(x, numbers, ("flip",), torch.float32)[:, 0, 16, 16] == 1
    assert abs(int(mirrored.sum()) - num / 2) < 5 * 32
    strengths = augmented(torch.full((num, 3, 2, 2), 100, dtype=torch.uint8), numbers, ("colour",), DOUBLE)
    # On an even grey image, contrast and saturation change nothing: what is left is brightness.
    brightness = strengths[:, 0, 0, 0] * 255 / 100
    assert float(brightness.min()) == pytest.approx(0.6, abs=0.01)
    assert float(brightness.max()) == pytest.approx(1.4, abs=0.01)
    assert float(brightness.mean()) == pytest.approx(1.0, abs=5 * 0.8 / math.sqrt(12 * num))


@pytest.mark.parametrize("names", [("flip",), ("crop",), ("colour",), ALL])
def test_image_has_the_same_bits_alone_and_among_others(names):
    x, numbers = images(37, 30), draws(37)
    together = augmented(x, numbers, names, torch.float32)
    for i in range(37):
        assert torch.equal(augmented(x[i : i + 1], numbers[i : i + 1], names, torch.float32)[0], together[i])


def test_one_augmentation_does_not_change_what_another_draws():
    x, numbers = images(10), draws(10)
    by_hand = augmented(x, numbers, ("flip",), DOUBLE)
    assert torch.equal(augmented(x, numbers, ("crop", "flip"), DOUBLE), augmented(x, numbers, ("flip", "crop"), DOUBLE))
    cropped = augmented(x, numbers, ("crop",), DOUBLE)
    is_mirrored = numbers[:, 0] < 0.5
    assert torch.equal(augmented(x, numbers, ("flip", "crop"), DOUBLE)[~is_mirrored], cropped[~is_mirrored])
    assert torch.equal(by_hand[~is_mirrored], x[~is_mirrored].to(DOUBLE) / 255)


def test_image_that_is_not_square_is_cropped_along_both_sides():
    x = images(6, 40)[:, :, :16]
    numbers = draws(6)
    found = augmented(x, numbers, ("crop",), DOUBLE)
    for image, of_image, row in zip(x, found, numbers.tolist(), strict=True):
        padded = functional.pad(image, [5, 2, 5, 2])
        top, left = math.floor(5 * row[1]), math.floor(11 * row[2])
        assert torch.equal(of_image, padded[:, top : top + 16, left : left + 40].to(DOUBLE) / 255)


def test_the_images_that_were_given_stay_as_they_are():
    x = images(4)
    before = x.clone()
    augmented(x, draws(4), ALL, torch.float32)
    assert torch.equal(x, before)
