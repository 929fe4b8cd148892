"""Write classes of a pack as folders of PNG files, to look at, to share, or to classify."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.disk import write_error
from mamlcli.common.errors import DataError
from mamlcli.tasks.images.packs import Pack


def export_classes(
    pack: Pack,
    class_names: Sequence[str],
    out: Path,
    *,
    num_classes: int | None = None,
    num_images: int | None = None,
    shots: int | None = None,
    seed: int = 0,
) -> dict[str, int]:
    """Write images as `out/<class>/<number>.png`, with the pixels of the pack.

    Args:
        pack: the images.
        class_names: the classes to draw from, all in the pack.
        out: a folder that is new or empty.
        num_classes: how many classes, drawn by the seed; None for all.
        num_images: how many images of each class, drawn by the seed; None for all.
        shots: how many images of each class go to `out/support/<class>`, the others to `out/query/<class>`; None for
            one folder.
        seed: the same seed draws the same classes and images.

    Returns:
        The number of images of each class by the name of its folder: letters, digits and the like of the class
        name, "-" for others.

    Raises:
        DataError: there are fewer classes or images than asked for, or the folder is in use or cannot be written.
    """
    _require_free(out)
    generator = np.random.default_rng(seed)
    chosen = _chosen_classes(class_names, num_classes, generator)
    drawn = {name: _drawn_images(pack, name, num_images, shots, generator) for name in chosen}
    folders = _folder_names(chosen)
    try:
        for name, images in drawn.items():
            for number, image in enumerate(images):
                part = () if shots is None else ("support" if number < shots else "query",)
                _write(image, out.joinpath(*part, folders[name], f"{number + 1:04d}.png"))
    except OSError as error:
        raise write_error(
            error,
            str(out),
            expected="a folder that can be written",
            next_step="Give another: --out DIR",
            kind=DataError,
        ) from error
    return {folders[name]: len(images) for name, images in drawn.items()}


def _require_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        got = "a folder with files in it" if out.is_dir() else "a file"
        raise DataError(str(out), expected="a new or empty folder", got=got, next_step="Give another: --out DIR")


def _chosen_classes(class_names: Sequence[str], num: int | None, generator: np.random.Generator) -> list[str]:
    if num is None:
        return list(class_names)
    if num > len(class_names):
        raise DataError("--classes", expected=f"at most the {len(class_names)} classes of the split", got=str(num))
    return [class_names[index] for index in generator.choice(len(class_names), size=num, replace=False)]


def _drawn_images(
    pack: Pack, name: str, num: int | None, shots: int | None, generator: np.random.Generator
) -> NDArray[np.uint8]:
    indices = np.flatnonzero(pack.labels == pack.class_names.index(name))
    wanted = len(indices) if num is None else num
    if wanted > len(indices):
        raise DataError("--images", expected=f"at most {len(indices)}, the images of class {name!r}", got=str(num))
    if shots is not None and shots >= wanted:
        raise DataError(
            "--shots",
            expected=f"fewer than the {wanted} images of class {name!r}",
            got=str(shots),
            why="Some must be left to classify",
        )
    drawn: NDArray[np.uint8] = pack.images[generator.permutation(indices)[:wanted]]
    return drawn


def _folder_names(names: Sequence[str]) -> dict[str, str]:
    """Return a folder name for each class, all different even where upper and lower case are the same."""
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = re.sub(r"[^\w.,+=()-]+", "-", name).strip("-.") or "class"
        number, folder = 1, plain
        while folder.lower() in taken:
            number += 1
            folder = f"{plain}-{number}"
        taken.add(folder.lower())
        folders[name] = folder
    return folders


def _write(image: NDArray[np.uint8], path: Path) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(path, format="PNG")
