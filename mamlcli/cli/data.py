"""`mamlcli data` lists, fetches, imports, checks, draws and exports image sets."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mamlcli.cli import complete, console
from mamlcli.cli.options import JsonOption, place_to_write
from mamlcli.common.errors import DataError
from mamlcli.common.files import data_dir
from mamlcli.common.names import SPLITS
from mamlcli.tasks.images.find import check_split_name, open_pack, present_classes

if TYPE_CHECKING:
    from rich.progress import TaskID

    from mamlcli.tasks.images.checks import Finding


app = typer.Typer(help="Image sets: list, fetch, import, check, look at.", no_args_is_help=True)


NameOrPath = Annotated[
    str,
    typer.Argument(help="A source, the name of a pack, or the path of an .npz file.", autocompletion=complete.pack),
]


SplitOption = Annotated[
    str,
    typer.Option(help="train, validation, test or all.", autocompletion=complete.one_of(*SPLITS, "all")),
]


InvertOption = Annotated[
    str,
    typer.Option(
        help="auto, yes or no: make ink bright and paper dark; auto decides once for all.",
        autocompletion=complete.one_of("auto", "yes", "no"),
    ),
]


ClassLevelOption = Annotated[
    int | None,
    typer.Option(min=1, help="folder: how deep class folders are: 1 in PATH, 2 in groups there; by default found out."),
]


@app.command("ls")
def ls(as_json: JsonOption = False) -> None:
    """List the sources that are known and the packs that are here.

    Packs are looked for in $MAMLCLI_DATA, then in the user's cache folder.

    Examples:

      mamlcli data ls --json
    """
    from mamlcli.cli.data_tables import listed_packs, pack_parts, packs_to_json

    console.show(listed_packs(), pack_parts, to_json=packs_to_json)


@app.command("fetch")
def fetch(
    source: Annotated[
        str,
        typer.Argument(
            help="omniglot, cifar-fs or fc100.", autocompletion=complete.one_of("omniglot", "cifar-fs", "fc100")
        ),
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace a pack that is there.")] = False,
) -> None:
    """Download a source, verify its checksums, and make a pack of it.

    Examples:

      mamlcli data fetch omniglot
    """
    from mamlcli.tasks.images.downloads import fetch as fetch_source

    with _progress("downloading", "packing") as (downloading, packing):
        path = fetch_source(source, data_dir(), force=force, downloading=downloading, progress=packing)
    console.result_text(f"Wrote {path}")


@app.command("import")
def import_(
    source: Annotated[
        str,
        typer.Argument(
            help="omniglot, cifar-fs, fc100, mini-imagenet or folder.",
            autocompletion=complete.one_of("omniglot", "cifar-fs", "fc100", "mini-imagenet", "folder"),
        ),
    ],
    path: Annotated[
        Path, typer.Argument(help="A folder, an archive (.zip, .tar, .tar.gz) or a pickle (.pkl, .pickle).")
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the pack; by default the source, or the name of the folder or file.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Height and width of the images, in pixels.")] = None,
    channels: Annotated[int | None, typer.Option(help="1 for grey, 3 for RGB.")] = None,
    invert: InvertOption = "auto",
    class_level: ClassLevelOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a pack that is there.")] = False,
) -> None:
    """Make a pack from files on this machine, as they are distributed.

    omniglot: ALPHABET/CHARACTER/DRAWER.png, or what holds images_background and
    images_evaluation, unpacked or as .zip. cifar-fs, fc100: cifar-100-python or
    its archive, class folders, or FC100_train.pickle and the like. mini-imagenet:
    class folders named as n01532829, images/ with train.csv, val.csv, test.csv,
    or mini-imagenet-cache-train.pkl and the like. folder: any class folders, or
    train, val and test with class folders in them.

    Pictures are turned upright, laid on white, cut to their middle square
    (mini-imagenet: squeezed) and resized.

    Examples:

      mamlcli data import folder photos --name pets --size 84

      mamlcli data import mini-imagenet mini-imagenet-cache-train.pkl
    """
    from mamlcli.cli.imported import show_import
    from mamlcli.tasks.images.sources import import_source, pack_path

    target = pack_path(source, path, name=name, force=force)
    with _progress("reading") as (progress,):
        report = import_source(
            source,
            path,
            target,
            size=size,
            channels=channels,
            invert=invert,
            class_level=class_level,
            force=force,
            progress=progress,
        )
    show_import(report)


@app.command("check")
def check(
    name_or_path: NameOrPath,
    split: Annotated[
        str | None,
        typer.Option(help="train, validation or test; by default all three.", autocompletion=complete.one_of(*SPLITS)),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look for what is wrong with a pack and its class splits.

    Tells of missing classes, classes with too few images, constant images, the same images in two splits or classes,
    and drawings that look alike in two splits. The exit code is 1 if a command that uses the pack would fail.

    Examples:

      mamlcli data check omniglot --split test
    """
    from mamlcli.cli.data_tables import CheckedPack, finding_parts

    findings, where = _findings(name_or_path, split)
    checked = CheckedPack(where, findings)
    console.show(checked, finding_parts)
    if checked.num_errors:
        raise DataError(
            where,
            expected="a pack without errors",
            got=f"{checked.num_errors}, listed above",
            next_step=_other_use(name_or_path, findings),
        )


@app.command("show")
def show(
    name_or_path: NameOrPath,
    ways: Annotated[int, typer.Option(min=1, help="Classes.")] = 5,
    shots: Annotated[int, typer.Option(min=1, help="Support images of each class.")] = 1,
    queries: Annotated[int, typer.Option(min=0, help="Query images of each class.")] = 3,
    split: SplitOption = "train",
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws another episode.")] = 0,
    out: Annotated[Path, typer.Option(help="The picture to write.", callback=place_to_write)] = Path("sheet.png"),
) -> None:
    """Draw an episode and save its images as one picture.

    Examples:

      mamlcli data show omniglot --ways 5 --shots 1 --out sheet.png
    """
    from mamlcli.tasks.images.sheets import contact_sheet, draw_episode, save_sheet

    pack, source, where = open_pack(name_or_path)
    names = present_classes(pack, source, split, where)
    support, query, drawn = draw_episode(pack, names, ways=ways, shots=shots, queries=queries, seed=seed)
    save_sheet(contact_sheet(support, query, drawn), out)
    console.result_text(f"Wrote {out}: {ways} classes of {where} ({split}): {', '.join(drawn)}")


@app.command("export")
def export(
    name_or_path: NameOrPath,
    out: Annotated[Path, typer.Option(help="The folder to write, new or empty.", callback=place_to_write)],
    split: SplitOption = "validation",
    classes: Annotated[
        int | None, typer.Option(min=1, help="As many classes, drawn by the seed.", show_default="all")
    ] = None,
    images: Annotated[int | None, typer.Option(min=1, help="As many images of each class.", show_default="all")] = None,
    shots: Annotated[
        int | None,
        typer.Option(min=1, help="Put so many of each class in OUT/support, the rest in OUT/query.", show_default="no"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws others.")] = 0,
) -> None:
    """Write classes of a pack as class folders of PNG files.

    With --shots they are ready for mamlcli adapt RUN --support --query.

    Examples:

      mamlcli data export glyphs --classes 5 --images 6 --shots 1 --out letters
    """
    from mamlcli.tasks.images.export import export_classes

    pack, source, where = open_pack(name_or_path)
    names = present_classes(pack, source, split, where)
    written = export_classes(pack, names, out, num_classes=classes, num_images=images, shots=shots, seed=seed)
    shown = ", ".join(list(written)[:10]) + (", ..." if len(written) > 10 else "")
    console.result_text(f"Wrote {sum(written.values())} images of {len(written)} classes ({split}) to {out}: {shown}")


@contextlib.contextmanager
def _progress(*labels: str) -> Iterator[list[Callable[[int, int], None]]]:
    """Show progress bars on stderr that appear with their first reports and go away at the end."""
    with console.progress_bar() as bar:
        tasks = [bar.add_task(label, total=None, visible=False) for label in labels]

        def advance(task: TaskID, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        yield [partial(advance, task) for task in tasks]


def _other_use(name_or_path: str, findings: list[Finding]) -> str | None:
    """Return what a pack is good for that lacks nothing but classes of its source, as one of meta-train alone does."""
    from mamlcli.cli.imported import folder_command

    if {finding.check for finding in findings if finding.severity == "error"} != {"missing classes"}:
        return None
    pack, source, where = open_pack(name_or_path)
    command = folder_command(pack, where)
    return f"To train on the classes that are there, not in the splits of {source}: {command}" if command else None


def _findings(name_or_path: str, split: str | None) -> tuple[list[Finding], str]:
    """Check a pack with the splits asked for and return what was found, and the name of the pack in messages.

    That its classes cannot be split is a finding, too.
    """
    from mamlcli.tasks.images.checks import Finding, check_pack
    from mamlcli.tasks.images.class_splits import PUBLISHED_SOURCES, class_split

    wanted = SPLITS if split is None else (split,)
    for name in wanted:
        check_split_name(name, SPLITS)
    pack, source, where = open_pack(name_or_path)
    try:
        splits = class_split(source, pack)
    except DataError as error:
        return [Finding("error", "class split", str(error)), *check_pack(pack, {})], where
    is_published = source in PUBLISHED_SOURCES
    return check_pack(pack, {name: splits[name] for name in wanted}, is_published=is_published), where
