"""Shows the trained models that ship with the package, in the terminal and as JSON: the list, and all about one."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from mamlcli.common.tables import duration, plain_table
from mamlcli.recipe.files import recipe_to_tree
from mamlcli.runs.entry import RunEntry
from mamlcli.runs.models import folder_bytes, model_card
from mamlcli.runs.tables import score_text


def models_table(models: Sequence[RunEntry]) -> Table:
    """Return the list of models as a table that fits 80 columns."""
    table = plain_table(
        caption="tasks: those that were scored, and their split; time: of training\n"
        "query: accuracy in %, for regression the loss; ± half-width of the 95 % interval over tasks\n"
        "mamlcli models show MODEL tells all of one; mamlcli adapt MODEL --support DIR --query DIR uses it"
    )
    table.add_column("model", no_wrap=True)
    table.add_column("tasks")
    table.add_column("query", justify="right", no_wrap=True)
    for name in ("seed", "time", "size"):
        table.add_column(name, justify="right")
    for model in models:
        took = "-" if model.wall_s is None else duration(model.wall_s)
        size = f"{folder_bytes(model.path) / 1000:.0f} kB"
        table.add_row(model.name, _tasks(model), score_text(model), str(model.manifest.seed), took, size)
    return table


def _tasks(model: RunEntry) -> Text:
    """Return in few words which tasks a model was scored on."""
    if model.report is None:
        return Text("-")
    protocol = model.report.protocol
    size = f"{protocol.ways}-way {protocol.shots}-shot" if protocol.per_class else f"{protocol.shots} points"
    return Text(f"{size},\n{protocol.split}")


def model_row(model: RunEntry) -> dict[str, object]:
    """Return a model's line of the list as JSON."""
    report, manifest = model.report, model.manifest
    assert report is not None, "a shipped model was scored"
    protocol, accuracy, loss = report.protocol, report.final.accuracy, report.final.loss
    assert loss is not None, "a result has a loss"
    return {
        "name": model.name,
        "recipe": model.recipe_name,
        "source": manifest.data.get("source"),
        "ways": protocol.ways,
        "shots": protocol.shots,
        "queries": protocol.queries,
        "accuracy": None if accuracy is None else accuracy.to_json(),
        "loss": loss.to_json(),
        "split": protocol.split,
        "num_tasks": protocol.num_tasks,
        "inner_steps": protocol.inner_steps,
        "seeds": [manifest.seed],
        "num_parameters": manifest.num_parameters,
        "size_bytes": folder_bytes(model.path),
        "trained_at": manifest.started_at,
        "wall_s": model.wall_s,
        "device": manifest.device,
    }


def model_record(model: RunEntry) -> dict[str, object]:
    """Return everything about one model as JSON."""
    assert model.report is not None, "a shipped model was scored"
    result = model.report.to_json()
    return {
        **model_row(model),
        "protocol": result["protocol"],
        "result": {key: value for key, value in result.items() if key not in ("protocol", "references", "run")},
        "references": result["references"],
        "recipe_keys": None if model.recipe is None else recipe_to_tree(model.recipe),
        "manifest": model.manifest.to_json(),
        "card": model_card(model.path),
    }
