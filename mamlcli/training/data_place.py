"""Finds where the data of a run are now, and makes sure that they are the same data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mamlcli.common.errors import DataError, RunError
from mamlcli.common.names import PATH_KEY
from mamlcli.common.words import shown
from mamlcli.recipe.places import data_path, whole_path, with_data_path, with_whole_path
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import FolderTasks, ImageKeys, ImageTasks
from mamlcli.runs.folder import RunDirectory
from mamlcli.tasks.images.packs import find_pack, pack_digest
from mamlcli.tasks.images.sources import how_to_get
from mamlcli.training.data import load_image_pack

SAY_WHERE = f"add {PATH_KEY}=PLACE to the command, the place where the data are now"


def located(run: RunDirectory, recipe: Recipe) -> Recipe:
    """Return a run's recipe with the place where its data are now, of the places that the run notes.

    A path that is not the run's own was given by the user, and is made absolute, no more. Where nothing is found the
    recipe stays as it is: what needs the data says so, see `check_found`.

    Args:
        run: whose recipe it is.
        recipe: its own, or with some keys changed.
    """
    if not isinstance(recipe.tasks, ImageKeys) or _is_drawn(recipe):
        return recipe
    if data_path(recipe) != data_path(run.recipe):
        return with_whole_path(recipe)
    if data_path(recipe) is None and find_pack(recipe.tasks.source) is not None:
        return recipe
    found = next((place for place in _places(run, recipe) if Path(place).exists()), None)
    return recipe if found is None else with_data_path(recipe, found)


def _is_drawn(recipe: Recipe) -> bool:
    return recipe.tasks.source == "glyphs" and data_path(recipe) is None


def _places(run: RunDirectory, recipe: Recipe) -> Iterator[str]:
    """Yield the paths at which the data of a run may be, the likeliest first.

    The recipe's own; then, of a path that was typed relative, that from the folder where it was typed, from here, and
    from each folder above the run: a project that was moved as a whole has its data where they were beside the run.
    """
    manifest = run.manifest
    bases = [*([Path(manifest.typed_in)] if manifest.typed_in else []), Path.cwd(), *run.path.absolute().parents]
    for text in dict.fromkeys((data_path(recipe), manifest.typed_path, manifest.data_file)):
        for base in bases if text else ():
            with contextlib.suppress(DataError):  # a variable of the environment that is set elsewhere
                yield whole_path(str(text), base)


def check_found(run: RunDirectory, recipe: Recipe) -> None:
    """Raise DataError if there is nothing where the data of a run should be.

    Args:
        run: whose data are needed.
        recipe: as `located` gave it.
    """
    path = data_path(recipe)
    if not isinstance(recipe.tasks, ImageKeys) or _is_drawn(recipe):
        return
    if path is not None and not Path(path).exists():
        given = path != data_path(run.recipe)
        expected = "a folder of class folders, or a pack" if given else "the data that it was trained on"
        where = PATH_KEY if given else run.label
        got = f"nothing at {shown(path)}"
        raise DataError(where, expected=expected, got=got, next_step=SAY_WHERE[0].upper() + SAY_WHERE[1:])
    if path is None and find_pack(recipe.tasks.source) is None:
        source, noted = recipe.tasks.source, run.manifest.data_file
        got = "none in $MAMLCLI_DATA or the cache" + (f", and nothing at {shown(noted)}" if noted else "")
        next_step = f"Run: {how_to_get(source)}; or {SAY_WHERE}"
        raise DataError(run.label, expected=f"the pack {source}.npz", got=got, next_step=next_step)


def check_same(run: RunDirectory, digest: str | None) -> None:
    """Raise RunError unless data have the digest of those that a run was trained on, as far as it notes one."""
    recorded = run.manifest.data_digest
    if recorded is None or digest == recorded:
        return
    raise RunError(
        run.label,
        expected=f"the data it was trained on (digest {recorded})",
        got=f"other data (digest {digest})",
        why="Images, their number or the names of classes differ",
        next_step=f"Put the data back that it was trained on, or {SAY_WHERE}; new data need a new run",
    )


def note_place(run: RunDirectory, recipe: Recipe) -> None:
    """Keep in a finished run's recipe where its data are now, once they are found to be the same.

    Args:
        run: which is done.
        recipe: its own, with another place of the data.
    """
    check_found(run, recipe)
    assert isinstance(recipe.tasks, ImageTasks | FolderTasks), "the place of data is a key of image sources"
    check_same(run, pack_digest(load_image_pack(recipe.tasks)[0]))
    with run.lock():
        run.update_manifest(run.write_recipe(recipe))
