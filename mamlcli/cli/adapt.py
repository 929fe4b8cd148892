"""`mamlcli adapt` adapts a trained run to unseen tasks, or to one's own images to classify them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mamlcli.cli import complete, console
from mamlcli.cli.options import DeviceOption, JsonOption, RunArgument, SplitOption, place_to_write
from mamlcli.common.errors import MamlError
from mamlcli.common.names import PATH_KEY
from mamlcli.common.words import shown

if TYPE_CHECKING:
    from mamlcli.deploy.report import PredictionReport, PredictionRequest, Predictions


_MAX_SKIPPED_SHOWN = 20


ProtocolArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE ...]",
        help="Keys of evaluation to change for this result, such as evaluation.ways=3; tasks.path=PLACE says where the "
        "run's data are now.",
        autocompletion=complete.evaluation_keys,
    ),
]


TasksOption = Annotated[
    int | None, typer.Option(min=2, help="Tasks to score; by default the recipe's (600).", show_default=False)
]


StepsOption = Annotated[
    int | None, typer.Option(min=1, help="Inner steps; more than in training is fine.", show_default=False)
]


SupportOption = Annotated[
    Path | None, typer.Option(help="Your images: a folder with a folder for each class.", show_default=False)
]


QueryOption = Annotated[
    Path | None, typer.Option(help="What to classify: a folder of images, or one image.", show_default=False)
]


InvertOption = Annotated[
    str,
    typer.Option(
        help="auto, yes or no: exchange bright and dark in your images; auto looks at their borders.",
        autocompletion=complete.one_of("auto", "yes", "no"),
    ),
]


FrameOption = Annotated[
    str,
    typer.Option(
        help="file or ink: take drawings as they are, or cut them out as large as the run's.",
        autocompletion=complete.one_of("file", "ink"),
    ),
]


JointOption = Annotated[
    bool, typer.Option("--joint", help="Batch norm over all your images: predictions then depend on each other.")
]


SheetOption = Annotated[
    Path | None,
    typer.Option(
        help="Also draw your images under their predictions, a PNG.", show_default=False, callback=place_to_write
    ),
]


OutOption = Annotated[
    Path | None,
    typer.Option(
        help="Also write a folder of results; with --query a table, FILE.csv or FILE.json.", callback=place_to_write
    ),
]


def adapt(
    run: RunArgument,
    arguments: ProtocolArguments = None,
    tasks: TasksOption = None,
    steps: StepsOption = None,
    split: SplitOption = None,
    device: DeviceOption = None,
    support: SupportOption = None,
    query: QueryOption = None,
    invert: InvertOption = "auto",
    frame: FrameOption = "file",
    joint: JointOption = False,
    sheet: SheetOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Adapt a trained run to tasks it has never seen; show loss and accuracy at every inner step.

    The tasks are those of evaluation.seed, the same for every run, so that runs can be compared. The run's own
    files are not changed; --out keeps the new result. Keys of evaluation, such as evaluation.ways,
    evaluation.shots or evaluation.batch_norm, score it by another protocol than its recipe's.

    With --support and --query the run adapts to your own images instead and classifies them. The folders in
    --support are the classes, with any number of images each: at most as many classes as the run was trained with
    (tasks.ways), or any number where it was trained with inner.head=zero or shared, unless what its gradient
    transform learned has the ways in its shape. Files go through the run's own preprocessing. If --query has
    folders named like the classes, accuracy is shown.

    Examples:

      mamlcli adapt runs/glyphs-5way-1shot-1

      mamlcli adapt runs/glyphs-5way-1shot-1 --steps 10 --out longer

      mamlcli adapt runs/glyphs-5way-1shot-1 --split train --tasks 200 --json

      mamlcli adapt runs/glyphs-5way-1shot-1 evaluation.shots=5 evaluation.batch_norm=support

      mamlcli adapt runs/glyphs-5way-1shot-1 --support letters --query page.png --sheet sheet.png
    """
    if support is not None or query is not None:
        words = {word: not is_place(word) for word in arguments or []}
        refuse({**words, "--tasks": tasks, "--split": split}, "--support and --query")
        request = request_of(support, query, invert, frame, steps, device, joint, places=arguments or ())
        predict(run, request, out=out, sheet=sheet)
    else:
        is_set = {"--invert": invert != "auto", "--joint": joint, "--frame": frame != "file", "--sheet": sheet}
        refuse(is_set, "a run's own tasks")
        changes = protocol_changes(arguments, {"tasks": tasks, "steps": steps, "split": split})
        rescore(run, device=device, num_tasks=tasks, num_steps=steps, split=split, changes=changes, out=out)


def protocol_changes(arguments: Sequence[str] | None, options: Mapping[str, object]) -> list[str]:
    """Return the words `evaluation.KEY=VALUE` and `tasks.path=PLACE`, once no other keys are among them.

    Args:
        arguments: words of the command line.
        options: the options that stand for keys of evaluation, by the key's name; None where not given.

    Raises:
        MamlError: a word is none of evaluation, or stands beside the option that says the same.
    """
    from mamlcli.recipe.schema import Evaluation

    for word in arguments or []:
        key = word.partition("=")[0].strip()
        name = key.rpartition(".")[2]
        if is_place(word):
            continue
        if not key.startswith("evaluation."):
            raise MamlError(
                word,
                expected="a key of evaluation with its value",
                got="another word",
                why=f"Did you mean 'evaluation.{name}'?" if name in Evaluation.model_fields else None,
                next_step="For example: evaluation.ways=3",
            )
        refuse({f"--{name}": options.get(name) is not None}, key)
    return list(arguments or [])


def is_place(word: str) -> bool:
    """Return whether a word is `tasks.path=PLACE`, which says where a run's data are now."""
    return word.partition("=")[0].strip() == PATH_KEY


def refuse(options: Mapping[str, object], what: str) -> None:
    """Raise MamlError for the first option that is given and does not go together with what is done."""
    given = [name for name, value in options.items() if value]
    if given:
        raise MamlError(
            given[0], expected=f"not to be used with {what}", got="both", next_step="See: mamlcli adapt --help"
        )


def rescore(
    run: Path,
    *,
    device: str | None,
    num_tasks: int | None,
    num_steps: int | None,
    split: str | None,
    changes: Sequence[str],
    out: Path | None,
) -> None:
    """Adapt a run to unseen tasks, write the result where that is asked for, and show it."""
    from mamlcli.runs.curve import curve_line, curve_table, verdict
    from mamlcli.runs.folder import RunDirectory
    from mamlcli.training.rescoring import adapt_run
    from mamlcli.training.scoring import write_evaluation

    directory = RunDirectory.open(run)
    has_protocol = not all(map(is_place, changes))
    if has_protocol and out is not None and out.resolve() == directory.path.resolve():
        why = "Its recipe says another protocol"
        expected, next_step = "another folder than the run's for a result by another protocol", "Name another --out"
        raise MamlError("--out", expected=expected, got=str(out), why=why, next_step=next_step)
    evaluation, report = adapt_run(
        directory, device=device, num_tasks=num_tasks, num_steps=num_steps, split=split, changes=changes
    )
    if out is not None:
        write_evaluation(out, evaluation, report)
        console.note(f"Written: {out}/evaluation.json, tasks.csv, curve.png, curve.svg")
    console.show(report, lambda report: [curve_table(report), curve_line(report), verdict(report)])


def request_of(
    support: Path | None,
    query: Path | None,
    invert: str,
    frame: str,
    steps: int | None,
    device: str | None,
    joint: bool,
    *,
    places: Sequence[str],
) -> PredictionRequest:
    """Return what is to be classified, and how; both folders are needed."""
    from mamlcli.deploy.report import PredictionRequest

    if support is None or query is None:
        given, missing = ("--query", "--support") if support is None else ("--support", "--query")
        raise MamlError(
            "mamlcli adapt",
            expected=f"{missing} with {given}",
            got=f"{given} alone",
            next_step="Run: mamlcli adapt RUN --support CLASS_FOLDERS --query IMAGES",
        )
    return PredictionRequest(support, query, invert, frame, steps, device, joint, places)


def predict(run: Path, request: PredictionRequest, *, out: Path | None, sheet: Path | None) -> None:
    """Classify the user's images, write the files that are asked for, and show the predictions."""
    from mamlcli.deploy.files import check_outputs, write_predictions, write_sheet

    check_outputs(out, sheet)
    predictions = _with_progress(run, request)
    warn_of_doubts(predictions.report)
    if out is not None:
        write_predictions(predictions.report, out)
        console.note(f"Written: {shown(out)}")
    if sheet is not None:
        write_sheet(predictions, sheet)
        console.note(f"Written: {shown(sheet)}")
    console.show(predictions.report, prediction_parts)


def _with_progress(run: Path, request: PredictionRequest) -> Predictions:
    """Return the predictions of a run; a bar on stderr shows how far they are, and goes away at the end."""
    from mamlcli.deploy.prediction import predict_run
    from mamlcli.runs.folder import RunDirectory

    with console.progress_bar() as bar:
        task = bar.add_task("", total=None, visible=False)

        def advance(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total, visible=True)

        return predict_run(RunDirectory.open(run), request, on_progress=advance)


def warn_of_doubts(report: PredictionReport) -> None:
    """Warn of what makes the result doubtful, and list the files that could not be used."""
    for text in report.warnings:
        console.warn(text)
    for file, reason in report.skipped[:_MAX_SKIPPED_SHOWN]:
        console.warn(f"skipped {shown(file)}: {reason}")
    more = len(report.skipped) - _MAX_SKIPPED_SHOWN
    if more > 0:
        console.warn(f"skipped {more} more files; --json and --out FILE.json list them all")


def prediction_parts(report: PredictionReport) -> list[console.Part]:
    """Return the predictions as a table, with what was done above it and what to know below it."""
    from rich.text import Text

    from mamlcli.deploy.tables import prediction_notes, prediction_table, prediction_title

    title = Text(prediction_title(report), style="bold")
    return [title, prediction_table(report), prediction_notes(report)]
