"""Tables for papers and programs, and weights as a folder: read back by other readers than ours."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from markdown_it import MarkdownIt
from safetensors.torch import load_file

from mamlcli.common.errors import RunError
from mamlcli.common.words import one_line
from mamlcli.deploy.weights import export_weights, load_module
from mamlcli.engine.networks import apply_network
from mamlcli.runs.entry import read_run
from mamlcli.runs.exports import export_runs, runs_text_table
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.manifest import Manifest
from mamlcli.runs.text_tables import TextTable, escape_latex, escape_markdown, latex, latex_document
from mamlcli.tasks.episodes import sample_tasks
from mamlcli.training.experiment import build
from mamlcli.training.trained import best_weights
from tests.helpers.running import TINY_IMAGES, train_tiny

NASTY = "a|b_c%d&e #1 {x} $y$ ~ ^ \\ \"q\" 'z' `g` <h> -- ,, [k] *l* !m! @n ±"
FOREIGN = "Ωμέγα 中文"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    base = tmp_path_factory.mktemp("trained")
    train_tiny(base / "one", "logistic", "inner.steps=3")
    train_tiny(base / "two", "logistic", "inner.steps=3", "model.depth=2")
    train_tiny(base / "line", "linear-regression", "model.bias=false", "execution.dtype=float64")
    train_tiny(base / "sinusoid", "sinusoid", "model.linear_layers=1")
    train_tiny(base / "kfo", "logistic", "inner.transform=kfo")
    return base


def named(trained, *names):
    """Return runs that are the same but for their names, which no file system need hold."""
    run = read_run(trained / "one")
    return [
        dataclasses.replace(
            run, manifest=Manifest({**run.manifest, "recipe_name": name}), path=run.path.parent / f"{n}"
        )
        for n, name in enumerate(names)
    ]


# CSV, JSON -----------------------------------------------------------------------------------------------------


def test_csv_of_a_run_is_its_curve(trained):
    rows = list(csv.DictReader(io.StringIO(export_runs([read_run(trained / "one")], "csv"))))
    report = json.loads((trained / "one" / "evaluation.json").read_text())
    points = [*report["curve"], *report["references"].values()]
    assert [row["inner_step"] for row in rows] == ["0", "1", "2", "3", *report["references"]]
    for row, point in zip(rows, points, strict=True):
        for metric, name in (("loss", "query_loss"), ("accuracy", "query_accuracy"), ("support_loss", "support_loss")):
            if metric in point:
                assert float(row[f"{name}_mean"]) == point[metric]["mean"]
                assert float(row[f"{name}_ci95_over_tasks"]) == point[metric]["ci95_over_tasks"]
            else:
                assert row[f"{name}_mean"] == ""


def test_csv_of_several_runs_has_a_row_of_each(trained):
    runs = [read_run(trained / name) for name in ("one", "line")]
    rows = list(csv.DictReader(io.StringIO(export_runs(runs, "csv"))))
    assert [row["run"] for row in rows] == [str(trained / "one"), str(trained / "line")]
    for row, run in zip(rows, runs, strict=True):
        assert float(row["query_loss_mean"]) == run.final("loss").mean
        assert row["protocol_shots"] == "4"
        assert "outer.iterations=2" in row["changed_keys"].split()
    assert (float(rows[0]["query_accuracy_mean"]), rows[1]["query_accuracy_mean"]) == (
        runs[0].final("accuracy").mean,
        "",
    )


@pytest.mark.parametrize("name", [NASTY, FOREIGN, 'a,b\nc;"d"'])
def test_csv_and_json_hold_any_name(trained, name):
    runs = named(trained, name, "other")
    rows = list(csv.DictReader(io.StringIO(export_runs(runs, "csv"))))
    assert [row["recipe"] for row in rows] == [one_line(name), "other"]
    assert [run["recipe"] for run in json.loads(export_runs(runs, "json"))] == [one_line(name), "other"]


def test_json_of_a_run_has_its_recipe_and_result(trained):
    found = json.loads(export_runs([read_run(trained / "one")], "json"))
    assert found["evaluation"] == json.loads((trained / "one" / "evaluation.json").read_text())
    assert found["recipe_keys"]["inner"]["steps"] == 3


def test_a_run_that_is_not_finished_is_refused(trained):
    run = dataclasses.replace(read_run(trained / "one"), status="interrupted")
    with pytest.raises(RunError, match="expected a finished run, got one that is interrupted"):
        export_runs([read_run(trained / "two"), run], "csv")


# Markdown ------------------------------------------------------------------------------------------------------


def cells_of_markdown(text):
    """Return the rows of the table in a text as markdown-it reads them, and the caption."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    rows, caption = [], None
    for before, token in itertools.pairwise(tokens):
        if before.type == "tr_open":
            rows.append([])
        if token.type == "inline":
            shown = "".join(child.content for child in token.children)
            assert all(child.type in ("text", "text_special") for child in token.children), shown
            if before.type in ("td_open", "th_open"):
                rows[-1].append(shown)
            else:
                caption = shown
    return rows, caption


def test_markdown_table_reads_back_as_it_was(trained):
    runs = named(trained, NASTY, "two\nlines", FOREIGN, "- 1. x", "&copy; <b>")
    table = runs_text_table(runs)
    rows, caption = cells_of_markdown(export_runs(runs, "markdown"))
    assert rows == [list(row) for row in (table.headers, *table.rows)]
    assert caption == table.caption
    assert rows[1][1] == NASTY
    assert rows[2][1] == "two\\nlines"


def test_markdown_caption_states_the_protocol(trained):
    text = export_runs([read_run(trained / "one")], "markdown")
    assert "4 support and 3 query points; 3 inner steps; 3 test tasks of evaluation seed 0; batch norm: none" in text
    assert cells_of_markdown(text)[0][-1][0] == "chance"


@pytest.mark.parametrize("text", [NASTY, FOREIGN, "___", "***", "``", "[a](b)", "![a](b)", "\\|", "|", "a  b"])
def test_escaped_markdown_is_the_text(text):
    (token,) = (t for t in MarkdownIt("commonmark").parse(f"x {escape_markdown(text)} y") if t.type == "inline")
    assert "".join(child.content for child in token.children) == f"x {text} y"


# LaTeX ---------------------------------------------------------------------------------------------------------

_COMMANDS = {
    "textbackslash": "\\",
    "textasciitilde": "~",
    "textasciicircum": "^",
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
    "textquotesingle": "'",
    "textasciigrave": "`",
    "char34": '"',
    "pm": "±",
    "allowbreak": "",
}
_TOKEN = re.compile(r"\\([A-Za-z]+[0-9]*)(?:\{\}|(?=\W))|\\([{}$&#%_])|([{}$])|([^\\{}$&#%_~^])")


def text_of_latex(escaped):
    """Return what LaTeX shows for a text; anything that is special and not escaped is an error."""
    shown, depth, place = [], 0, 0
    while place < len(escaped):
        token = _TOKEN.match(escaped, place)
        assert token, f"not escaped: {escaped[place:]!r}"
        command, symbol, group, char = token.groups()
        if command:
            shown.append(_COMMANDS[command])
        elif group in ("{", "}"):
            depth += 1 if group == "{" else -1
            assert depth >= 0
        elif not group:
            shown.append(symbol or char)
        place = token.end()
    assert depth == 0
    return "".join(shown)


@pytest.mark.parametrize("text", [NASTY, "plain", "two\nlines", "a---b,,c", "{", "}", "%", "[1]", "\x1b"])
def test_escaped_latex_is_the_text(text):
    assert text_of_latex(escape_latex(text)) == one_line(text)


def test_escaped_latex_has_no_ligature():
    assert escape_latex("a--b,,c") == "a-{}-b,{},c"


def check_latex(text):
    """Require what any LaTeX requires of a document: balanced environments and braces, cells as many as columns."""
    code = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", code):
        stack.append(name) if kind == "begin" else None
        assert kind == "begin" or stack.pop() == name
    assert not stack
    bare = re.sub(r"\\[\\{}$&#%_]", "", code)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    spec = re.search(r"\\begin\{tabular\}\{((?:[lr]|p\{[0-9.]+\\linewidth\})+)\}\n", code)[1]
    num_columns = len(re.sub(r"\{[^}]*\}", "", spec))
    for line in (
        re.search(r"\\toprule(.*)\\bottomrule", code, re.DOTALL)[1].replace(r"\midrule", "").strip().splitlines()
    ):
        if line.strip():
            assert line.endswith(r" \\")
            assert len(re.findall(r"(?<!\\)&", line)) == num_columns - 1


def test_latex_table_is_well_formed_and_has_the_numbers(trained):
    runs = [read_run(trained / name) for name in ("one", "two", "line")]
    text = export_runs(runs, "latex")
    check_latex(text)
    for run in runs[:2]:
        value = run.final("accuracy")
        assert rf"${100 * value.mean:.1f} \pm {100 * value.ci95:.1f}$" in text
    assert r"\usepackage{booktabs,textcomp}" in text.splitlines()[0]
    check_latex(export_runs(runs[2:], "latex"))


def test_latex_row_of_a_nasty_name_reads_back(trained):
    table = runs_text_table(named(trained, NASTY, "x"))
    text = latex(table)
    check_latex(text)
    row = next(line for line in text.splitlines() if line.strip().startswith("0 &"))
    assert text_of_latex(re.split(r"(?<!\\)&", row)[1].strip()) == NASTY


def test_numbers_are_set_as_numbers():
    table = TextTable("", ("name", "a", "b"), (False, True, True), (("-1", "-1.2e+06 ± 3.0", "-"),), "x")
    assert r"-1 & $-1.2 \times 10^{6} \pm 3.0$ & -- \\" in latex(table)


def test_letters_of_other_scripts_are_named_with_what_shows_them(trained):
    text = export_runs(named(trained, FOREIGN, "x"), "latex")
    assert "% Needs XeLaTeX or LuaLaTeX and a font that has: " + "".join(sorted(set(FOREIGN) - {" "})) in text
    document = export_runs(named(trained, FOREIGN, "x"), "latex", is_standalone=True)
    assert r"\DeclareUnicodeCharacter{4E2D}{U+4E2D}" in document
    assert "LuaLaTeX" not in export_runs(named(trained, "é", "x"), "latex")


ENGINES = [name for name in ("pdflatex", "lualatex", "xelatex", "tectonic") if shutil.which(name)]


def compiles(engine, source, folder):
    (folder / "table.tex").write_text(source)
    words = [] if engine == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    ended = subprocess.run([engine, *words, "table.tex"], cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:]
    assert (folder / "table.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.skipif(not ENGINES, reason="no LaTeX here")
def test_latex_compiles(trained, tmp_path):
    runs = [*named(trained, NASTY, FOREIGN, "é ß ł"), read_run(trained / "two"), read_run(trained / "line")]
    compiles(ENGINES[0], export_runs(runs, "latex", is_standalone=True), tmp_path)
    # The table by itself, in a document that has no more than its first line asks for.
    table = export_runs([*named(trained, NASTY), read_run(trained / "two")], "latex")
    needed = table.splitlines()[0].partition(": ")[2]
    document = "\n".join([r"\documentclass{article}", needed, r"\begin{document}", table, r"\end{document}", ""])
    compiles(ENGINES[0], document, tmp_path)


def test_standalone_document_is_well_formed(trained):
    document = latex_document(runs_text_table([read_run(trained / "one"), read_run(trained / "two")]))
    check_latex(document)
    assert document.startswith(r"\documentclass{article}")


def test_runs_of_other_protocols_have_them_in_a_column(trained):
    table = runs_text_table([read_run(trained / "one"), read_run(trained / "sinusoid")])
    assert "protocol" in table.headers
    assert "The protocols differ" in table.caption
    assert "protocol" not in runs_text_table([read_run(trained / "one"), read_run(trained / "two")]).headers


def test_keys_that_tell_runs_apart_stand_beside_them(trained):
    table = runs_text_table([read_run(trained / "one"), read_run(trained / "two")])
    keys = [row[table.headers.index("keys")] for row in table.rows]
    assert "model.depth=2" in keys[1]
    assert "model.depth" not in keys[0]
    assert not any("execution" in text for text in keys)
    mine = [
        dataclasses.replace(run, manifest=Manifest({**run.manifest, "recipe_name": "mine"}))
        for run in (read_run(trained / "one"), read_run(trained / "two"))
    ]
    table = runs_text_table(mine)
    assert [row[table.headers.index("keys")] for row in table.rows] == ["model.depth=1", "model.depth=2"]


# Weights -------------------------------------------------------------------------------------------------------


def outputs_of_run(run, x):
    """Return apply_network's outputs with the run's scored weights."""
    opened = read_run(run)
    experiment = build(opened.recipe, splits=("test",))
    meta, _ = best_weights(RunDirectory(run), experiment)
    return apply_network(experiment.network, meta.model, x)


# One process for all of them: torch takes seconds to load.
STANDALONE = """
import importlib.util, sys, torch
from pathlib import Path
torch.set_num_threads(1)  # more of them add in another order
for folder in sorted(Path(sys.argv[1]).iterdir()):
    spec = importlib.util.spec_from_file_location("module", folder / "module.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    x, y = torch.load(folder / "pair.pt")
    network = module.load()
    error = (network(x) - y).abs().max() / y.abs().max().clamp(min=1)
    assert isinstance(network, torch.nn.Module)
    assert error < 1e-6, (folder, error)
assert not [name for name in sys.modules if name.startswith("mamlcli")]
"""

IMAGE_MODELS = {
    "batch": ("model.norm=batch", "model.depth=2", "model.stride=2"),
    "group": ("model.norm=group", "model.pool=2", "model.head=flatten", "model.linear_layers=1"),
    "layer": ("model.norm=layer", "model.width=4"),
    "none": ("model.norm=none",),
    "mlp": ("model={kind: mlp, depth: 2, width: 5, activation: tanh}",),
    "linear": ("model={kind: linear, depth: 2, bias: false}",),
}


@pytest.mark.usefixtures("one_thread", "with_glyphs")
def test_both_forms_of_a_module_give_the_outputs_of_the_network(trained, tmp_path):
    runs = {name: trained / name for name in ("one", "line", "sinusoid", "kfo")}
    for name, words in IMAGE_MODELS.items():
        is_whole_model = words[0].startswith("model={")
        kept = [word for word in TINY_IMAGES if not (is_whole_model and word.startswith("model."))]
        words = ("tasks.shots=1", *kept, *words)
        runs[name] = train_tiny(tmp_path / "runs" / name, "glyphs-5way-1shot", *words).path
    for name, run in runs.items():
        out = tmp_path / "out" / name
        export_weights(read_run(run), out)
        module = load_module(out)
        dtype = next(module.parameters()).dtype
        x = torch.rand(7, *module.input_shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
        expected = outputs_of_run(run, x).detach()
        assert isinstance(module, torch.nn.Module)
        assert torch.equal(module(x), expected)
        torch.save((x, expected), out / "pair.pt")
    command = [sys.executable, "-c", STANDALONE, str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", ["one", "sinusoid"])
def test_adapt_of_the_written_module_reaches_the_scores_of_the_run(trained, tmp_path, name):
    run = read_run(trained / name)
    export_weights(run, tmp_path / "out")
    space: dict = {"__file__": str(tmp_path / "out" / "module.py"), "__name__": "module"}
    exec(compile((tmp_path / "out" / "module.py").read_text(), "module.py", "exec"), space)
    episode = sample_tasks(
        build(run.recipe, splits=("test",)).distributions["test"], seed=0, split="test", iteration=0, indices=range(3)
    )
    scores = [line.split(",") for line in (trained / name / "tasks.csv").read_text().splitlines()[1:]]
    last = [float(row[4]) for row in scores if int(row[1]) == run.report.protocol.inner_steps]
    for task in range(3):
        support_x, support_y, query_x, query_y = (part[task] for part in episode.data())
        network = space["load"]()
        params = space["adapt"](network, support_x, support_y, steps=run.report.protocol.inner_steps)
        outputs = torch.func.functional_call(network, params, (query_x,))
        if run.recipe.is_classification:
            loss = torch.nn.functional.cross_entropy(outputs, query_y)
        else:
            loss = 0.5 * (outputs - query_y).square().mean()
        assert float(loss) == pytest.approx(last[task], rel=1e-4)  # float32, sums in another order


def test_files_hold_all_parameters_and_the_transforms_by_themselves(trained, tmp_path):
    export_weights(read_run(trained / "kfo"), tmp_path / "out")
    saved = load_file(trained / "kfo" / "checkpoints" / "last.safetensors")
    model, transform = (load_file(tmp_path / "out" / f"{part}.safetensors") for part in ("model", "transform"))
    for part, tensors in (("model", model), ("transform", transform)):
        expected = {n.removeprefix(f"{part}/"): v for n, v in saved.items() if n.startswith(f"{part}/")}
        assert tensors.keys() == expected.keys()
        assert all(value.equal(expected[key]) for key, value in tensors.items())
    assert "adapt" not in (tmp_path / "out" / "module.py").read_text().replace("ANIL adapts", "")


def test_config_rebuilds_the_network_and_names_no_place(trained, tmp_path, with_glyphs):
    run = train_tiny(tmp_path / "run", "glyphs-5way-1shot", "tasks.shots=1", *TINY_IMAGES)
    manifest = run.manifest
    export_weights(read_run(run.path), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["input_shape"], config["num_outputs"]) == (manifest["network"]["input_shape"], 5)
    assert config["model"]["kind"] == "cnn"
    assert config["inner"]["adapted"] == list(load_module(tmp_path / "out").parameter_names())
    assert config["preprocessing"]["inputs"].endswith("scaled to [0, 1]")
    for name in ("config.json", "README.md", "module.py"):
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text()


def test_a_run_that_did_not_note_its_shapes_is_exported_from_its_data(trained, tmp_path):
    run = shutil.copytree(trained / "one", tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["network"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    export_weights(read_run(run), tmp_path / "out")
    assert load_module(tmp_path / "out").input_shape == (20,)


def test_model_card_says_what_data_protocol_result_and_limits(trained, tmp_path, with_glyphs):
    run = train_tiny(tmp_path / "run", "glyphs-5way-1shot", "tasks.shots=1", *TINY_IMAGES)
    export_weights(read_run(run.path), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    metadata = yaml.safe_load(front)
    final = json.loads((run.path / "evaluation.json").read_text())["final"]["accuracy"]
    assert metadata["library_name"] == "pytorch"
    assert metadata["model-index"][0]["results"][0]["metrics"][0]["value"] == final["mean"]
    assert f"query accuracy {100 * final['mean']:.1f} ± {100 * final['ci95_over_tasks']:.1f} %" in body
    for words in ("## Data", "## Result", "## Limits", "## How to load", "5-way 1-shot", "transductive", "load_module"):
        assert words in body
    code = re.findall(r"```python\n(.*?)```", body, re.DOTALL)[0]
    assert len(code.strip().splitlines()) <= 5


def test_the_code_of_the_card_runs_as_it_stands(trained, tmp_path):
    export_weights(read_run(trained / "one"), tmp_path / "out")
    code = re.findall(r"```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.DOTALL)
    program = "\n".join(
        [
            code[0],
            "support_x = query_x = torch.rand(4, 20)",
            "support_y = torch.tensor([0, 1, 0, 1])",
            code[1],
            "assert outputs.shape == (4, 2)",
        ]
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "out", capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_card_of_a_nasty_name_is_whole(trained, tmp_path):
    run = read_run(trained / "one")
    run = dataclasses.replace(run, manifest=Manifest({**run.manifest, "recipe_name": NASTY}))
    export_weights(run, tmp_path / "out")
    _, front, body = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["model-index"][0]["name"] == NASTY
    tokens = MarkdownIt("commonmark").parse(body)
    heading = tokens[[token.type for token in tokens].index("heading_open") + 1]
    assert "".join(child.content for child in heading.children) == NASTY


def test_a_folder_with_files_is_kept_unless_forced(trained, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="expected a new or empty folder, got a folder with files in it"):
        export_weights(read_run(trained / "one"), tmp_path / "out")
    export_weights(read_run(trained / "kfo"), tmp_path / "out", is_forced=True)
    export_weights(read_run(trained / "one"), tmp_path / "out", is_forced=True)
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
    assert not (tmp_path / "out" / "transform.safetensors").exists()  # of the run before
    (tmp_path / "file").write_text("")
    for is_forced in (False, True):
        with pytest.raises(RunError):
            export_weights(read_run(trained / "one"), tmp_path / "file", is_forced=is_forced)


@pytest.mark.parametrize("kind", ["no folder", "no config", "cut config", "no weights", "cut weights", "other weights"])
def test_a_damaged_export_is_an_error(trained, tmp_path, kind):
    out: Path = tmp_path / "out"
    if kind != "no folder":
        export_weights(read_run(trained / "one"), out)
    if kind == "no config":
        (out / "config.json").unlink()
    if kind == "cut config":
        (out / "config.json").write_text('{"recipe": {}}')
    if kind == "no weights":
        (out / "model.safetensors").unlink()
    if kind == "cut weights":
        (out / "model.safetensors").write_bytes((out / "model.safetensors").read_bytes()[:40])
    if kind == "other weights":
        export_weights(read_run(trained / "two"), tmp_path / "two")
        shutil.copy(tmp_path / "two" / "model.safetensors", out)
    with pytest.raises(RunError, match="expected a folder that mamlcli runs export --weights wrote"):
        load_module(out)


def test_weights_of_a_result_that_is_not_theirs_are_called_not_scored(trained, tmp_path):
    run = read_run(trained / "one")
    report = dataclasses.replace(run.report, weights="best by meta-validation, iteration 99")
    export_weights(dataclasses.replace(run, report=report), tmp_path / "out")
    assert "These weights were not scored." in (tmp_path / "out" / "README.md").read_text()
