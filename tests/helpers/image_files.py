"""Image files and CIFAR-like archives that tests write for themselves."""

import pickle
import struct
import tarfile
from typing import Any, ClassVar

import numpy as np
from PIL import Image


def noise(*shape, seed=0):
    """Return uint8 noise of a shape."""
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def save(path, array, **options):
    """Write an array as an image file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def drawing(side=20, seed=0):
    """Return a drawing as Omniglot has it: a few dark pixels (0) on white (255)."""
    page = np.full((side, side), 255, dtype=np.uint8)
    rows, columns = np.random.default_rng(seed).integers(4, side - 4, size=(2, 12))
    page[rows, columns] = 0
    return page


def class_folders(root, names, *, num_images=3, side=12, grey=False):
    """Write one folder of noise images for each name."""
    for index, name in enumerate(names):
        for number in range(num_images):
            shape = (side, side) if grey else (side, side, 3)
            save(root / name / f"{number:02d}.png", noise(*shape, seed=100 * index + number))
    return root


def omniglot_folders(root, *, alphabets=("Greek", "Korean"), num_characters=2, num_drawers=3):
    """Write a tree of one-bit drawings, <alphabet>/<character>/<drawer>.png."""
    for row, alphabet in enumerate(alphabets):
        for number in range(1, num_characters + 1):
            for drawer in range(1, num_drawers + 1):
                path = root / alphabet / f"character{number:02d}" / f"{drawer:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                page = drawing(seed=10_000 * row + 100 * number + drawer)
                Image.fromarray(page).convert("1", dither=Image.Dither.NONE).save(path)
    return root


def save_python2_string(pickler, value):
    data = value.encode("latin1") if isinstance(value, str) else value
    pickler.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)


class Python2Pickler(pickle._Pickler):
    """Pickles text and bytes alike as Python 2 strings, which is how CIFAR's own files were written."""

    dispatch: ClassVar[dict[Any, Any]] = {
        **pickle._Pickler.dispatch,
        str: save_python2_string,
        bytes: save_python2_string,
    }


def python2_pickle(path, value):
    """Write a value as Python 2 would have, with the module names of NumPy 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        Python2Pickler(stream, protocol=2).dump(value)
    path.write_bytes(path.read_bytes().replace(b"cnumpy._core.", b"cnumpy.core."))


def cifar_files(folder, *, num_train=5, num_test=1):
    """Write train, test and meta with 4 classes of 2 superclasses, in the layout of CIFAR-100."""
    fine = ["wolf", "apple", "bear", "pear"]  # not sorted, as a reader might take for granted
    coarse = ["carnivores", "fruit"]
    for name, num_images, seed in (("train", num_train, 1), ("test", num_test, 2)):
        labels = [label for _ in range(num_images) for label in range(len(fine))]
        content = {
            "data": noise(len(labels), 3072, seed=seed),
            "fine_labels": labels,
            "coarse_labels": [label % 2 for label in labels],
            "filenames": [f"{index}.png" for index in range(len(labels))],
        }
        python2_pickle(folder / name, content)
    python2_pickle(folder / "meta", {"fine_label_names": fine, "coarse_label_names": coarse})
    return folder


def cifar_archive(path, folder):
    """Pack a folder made by `cifar_files` as the archive that is distributed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname="cifar-100-python")
    return path
