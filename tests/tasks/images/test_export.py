"""Classes of a pack as folders: the pixels of the pack, the same for the same seed."""

import numpy as np
import pytest
from PIL import Image

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.export import export_classes
from mamlcli.tasks.images.packs import Pack
from tests.helpers.image_files import noise

NAMES = ("Greek/ж 1", "b", "B", "c")


@pytest.fixture
def pack():
    return Pack(noise(20, 6, 6, 1), np.repeat(np.arange(4), 5), NAMES)


def read(folder):
    return {path.relative_to(folder): np.asarray(Image.open(path)) for path in folder.rglob("*.png")}


def test_all_images_are_written_with_their_pixels(pack, tmp_path):
    written = export_classes(pack, NAMES, tmp_path / "out")
    assert written == {"Greek-ж-1": 5, "b": 5, "B-2": 5, "c": 5}
    written_images = {image.tobytes() for image in read(tmp_path / "out").values()}
    assert written_images == {image.tobytes() for image in pack.images}
    assert {path.parts[0] for path in read(tmp_path / "out")} == set(written)


def test_colour_is_kept(tmp_path):
    pack = Pack(noise(2, 6, 6, 3), np.array([0, 1]), ("a", "b"))
    export_classes(pack, ("b",), tmp_path / "out")
    np.testing.assert_array_equal(read(tmp_path)[(tmp_path / "out/b/0001.png").relative_to(tmp_path)], pack.images[1])


def test_seed_decides_classes_and_images(pack, tmp_path):
    def export(name, seed):
        export_classes(pack, NAMES, tmp_path / name, num_classes=2, num_images=3, seed=seed)
        images = read(tmp_path / name)
        assert len(images) == 6
        return {path: image.tobytes() for path, image in images.items()}

    assert export("a", 1) == export("b", 1) != export("c", 2)


def test_shots_part_support_and_query(pack, tmp_path):
    export_classes(pack, NAMES, tmp_path / "out", shots=2)
    support, query = read(tmp_path / "out" / "support"), read(tmp_path / "out" / "query")
    assert (len(support), len(query)) == (8, 12)
    assert not {image.tobytes() for image in support.values()} & {image.tobytes() for image in query.values()}


def test_what_is_not_there_is_refused(pack, tmp_path):
    with pytest.raises(DataError, match="at most the 4 classes"):
        export_classes(pack, NAMES, tmp_path / "out", num_classes=5)
    with pytest.raises(DataError, match=r"--images: expected at most 5"):
        export_classes(pack, NAMES, tmp_path / "out", num_images=6)
    with pytest.raises(DataError, match=r"--shots: expected fewer than the 3 images"):
        export_classes(pack, NAMES, tmp_path / "out", num_images=3, shots=3)
    assert not (tmp_path / "out").exists()


def test_folder_in_use_is_refused(pack, tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(DataError, match="expected a new or empty folder, got a folder with files in it"):
        export_classes(pack, NAMES, tmp_path)
    with pytest.raises(DataError, match="got a file"):
        export_classes(pack, NAMES, tmp_path / "mine")
