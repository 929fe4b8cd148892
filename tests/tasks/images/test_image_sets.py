"""An image set starts without groups, splits and warnings of its own."""

import numpy as np

from mamlcli.tasks.images.image_sets import ImageSet
from mamlcli.tasks.images.reading import Preprocessing
from tests.helpers.image_files import noise


def test_two_sets_share_no_list():
    first, second = (ImageSet(noise(1, 4, 4, 3), np.zeros(1, np.int64), ("a",), Preprocessing(4, 3)) for _ in range(2))
    first.skipped.append(("1.png", "damaged"))
    first.notes.append("small")
    assert (second.skipped, second.notes, second.class_groups, second.class_splits) == ([], [], {}, None)
