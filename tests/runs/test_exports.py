"""Runs as CSV, JSON, Markdown and LaTeX: read back by other readers than ours."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import re
import shutil
import subprocess

import pytest
from markdown_it import MarkdownIt

from mamlcli.common.errors import RunError
from mamlcli.common.words import one_line
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.entry import read_run
from mamlcli.runs.exports import SUFFIXES, export_runs, runs_text_table
from mamlcli.runs.text_tables import latex, latex_document
from tests.helpers.exported_runs import NASTY, train_one_of_each
from tests.helpers.latex import check_latex, text_of_latex
from tests.helpers.run_folders import with_manifest

FOREIGN = "Ωμέγα 中文"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return train_one_of_each(tmp_path_factory.mktemp("exported"))


def named(exported, *names):
    """Return runs that are the same but for their names, which no file system need hold."""
    runs = [with_manifest(read_run(exported / "one"), recipe_name=name) for name in names]
    return [dataclasses.replace(run, path=run.path.parent / str(number)) for number, run in enumerate(runs)]


def test_csv_of_a_run_is_its_curve(exported):
    rows = list(csv.DictReader(io.StringIO(export_runs([read_run(exported / "one")], "csv"))))
    report = json.loads((exported / "one" / "evaluation.json").read_text())
    points = [*report["curve"], *report["references"].values()]
    assert [row["inner_step"] for row in rows] == ["0", "1", "2", "3", *report["references"]]
    for row, point in zip(rows, points, strict=True):
        for metric, name in (("loss", "query_loss"), ("accuracy", "query_accuracy"), ("support_loss", "support_loss")):
            if metric in point:
                assert float(row[f"{name}_mean"]) == point[metric]["mean"]
                ci95 = row[f"{name}_ci95_over_tasks"]  # empty where all tasks score the same
                assert (float(ci95) if ci95 else None) == point[metric]["ci95_over_tasks"]
            else:
                assert row[f"{name}_mean"] == ""


@pytest.mark.parametrize("form", SUFFIXES)
@pytest.mark.parametrize("num_runs", [1, 2])
def test_no_path_of_a_machine_is_exported(exported, tmp_path, form, num_runs):
    runs = []
    for folder in ("ann-1", "ann-2"):
        run = dataclasses.replace(read_run(exported / "one"), path=tmp_path / folder / "mine")
        recipe = load_recipe("folder", [f"tasks.path={tmp_path / folder / 'pets'}"])[1]
        runs.append(dataclasses.replace(run, recipe=recipe, report=dataclasses.replace(run.report, run=str(run.path))))
    text = export_runs(runs[:num_runs], form)
    assert "ann-" not in text
    assert str(tmp_path) not in text
    if form == "json":
        records = json.loads(text) if num_runs == 2 else [json.loads(text)]
        assert [record["run"] for record in records] == ["mine", "mine (2)"][:num_runs]
        assert {record["evaluation"]["run"] for record in records} == {record["run"] for record in records}
        assert records[0]["recipe_keys"]["tasks"]["path"] == "pets"


def test_csv_of_several_runs_has_a_row_of_each(exported):
    runs = [read_run(exported / name) for name in ("one", "line")]
    rows = list(csv.DictReader(io.StringIO(export_runs(runs, "csv"))))
    assert [row["run"] for row in rows] == ["one", "line"]
    for row, run in zip(rows, runs, strict=True):
        assert float(row["query_loss_mean"]) == run.final("loss").mean
        assert row["protocol_shots"] == "4"
        assert "outer.iterations=2" in row["changed_keys"].split()
    assert (float(rows[0]["query_accuracy_mean"]), rows[1]["query_accuracy_mean"]) == (
        runs[0].final("accuracy").mean,
        "",
    )


@pytest.mark.parametrize("name", [NASTY, FOREIGN, 'a,b\nc;"d"'])
def test_csv_and_json_hold_any_name(exported, name):
    runs = named(exported, name, "other")
    rows = list(csv.DictReader(io.StringIO(export_runs(runs, "csv"))))
    assert [row["recipe"] for row in rows] == [one_line(name), "other"]
    assert [run["recipe"] for run in json.loads(export_runs(runs, "json"))] == [one_line(name), "other"]


def test_json_of_a_run_has_its_recipe_and_result(exported):
    found = json.loads(export_runs([read_run(exported / "one")], "json"))
    assert found["evaluation"] == json.loads((exported / "one" / "evaluation.json").read_text()) | {"run": "one"}
    assert found["recipe_keys"]["inner"]["steps"] == 3


def test_a_run_that_is_not_finished_is_refused(exported):
    run = dataclasses.replace(read_run(exported / "one"), status="interrupted")
    with pytest.raises(RunError, match="expected a finished run, got one that is interrupted"):
        export_runs([read_run(exported / "two"), run], "csv")


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


def test_markdown_table_reads_back_as_it_was(exported):
    runs = named(exported, NASTY, "two\nlines", FOREIGN, "- 1. x", "&copy; <b>")
    table = runs_text_table(runs)
    rows, caption = cells_of_markdown(export_runs(runs, "markdown"))
    assert rows == [list(row) for row in (table.headers, *table.rows)]
    assert caption == table.caption
    assert rows[1][1] == NASTY
    assert rows[2][1] == "two\\nlines"


def test_markdown_caption_states_the_protocol(exported):
    text = export_runs([read_run(exported / "one")], "markdown")
    assert "4 support and 3 query points; 3 inner steps; 3 test tasks of evaluation seed 0; batch norm: none" in text
    assert cells_of_markdown(text)[0][-1][0] == "chance"


def test_latex_table_is_well_formed_and_has_the_numbers(exported):
    runs = [read_run(exported / name) for name in ("one", "two", "line")]
    text = export_runs(runs, "latex")
    check_latex(text)
    for run in runs[:2]:
        value = run.final("accuracy")
        assert rf"${100 * value.mean:.1f} \pm {100 * value.ci95:.1f}$" in text
    assert r"\usepackage{booktabs,textcomp}" in text.splitlines()[0]
    check_latex(export_runs(runs[2:], "latex"))


def test_latex_row_of_a_nasty_name_reads_back(exported):
    table = runs_text_table(named(exported, NASTY, "x"))
    text = latex(table)
    check_latex(text)
    row = next(line for line in text.splitlines() if line.strip().startswith("0 &"))
    assert text_of_latex(re.split(r"(?<!\\)&", row)[1].strip()) == NASTY


def test_letters_of_other_scripts_are_named_with_what_shows_them(exported):
    text = export_runs(named(exported, FOREIGN, "x"), "latex")
    assert "% Needs XeLaTeX or LuaLaTeX and a font that has: " + "".join(sorted(set(FOREIGN) - {" "})) in text
    document = export_runs(named(exported, FOREIGN, "x"), "latex", is_standalone=True)
    assert r"\DeclareUnicodeCharacter{4E2D}{U+4E2D}" in document
    assert "LuaLaTeX" not in export_runs(named(exported, "é", "x"), "latex")


ENGINES = [name for name in ("pdflatex", "lualatex", "xelatex", "tectonic") if shutil.which(name)]


def compiles(engine, source, folder):
    (folder / "table.tex").write_text(source)
    words = [] if engine == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    ended = subprocess.run([engine, *words, "table.tex"], cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:]
    assert (folder / "table.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.skipif(not ENGINES, reason="no LaTeX here")
def test_latex_compiles(exported, tmp_path):
    runs = [*named(exported, NASTY, FOREIGN, "é ß ł"), read_run(exported / "two"), read_run(exported / "line")]
    compiles(ENGINES[0], export_runs(runs, "latex", is_standalone=True), tmp_path)
    # The table by itself, in a document that has no more than its first line asks for.
    table = export_runs([*named(exported, NASTY), read_run(exported / "two")], "latex")
    needed = table.splitlines()[0].partition(": ")[2]
    document = "\n".join([r"\documentclass{article}", needed, r"\begin{document}", table, r"\end{document}", ""])
    compiles(ENGINES[0], document, tmp_path)


def test_standalone_document_is_well_formed(exported):
    document = latex_document(runs_text_table([read_run(exported / "one"), read_run(exported / "two")]))
    check_latex(document)
    assert document.startswith(r"\documentclass{article}")


def test_runs_of_other_protocols_have_them_in_a_column(exported):
    table = runs_text_table([read_run(exported / "one"), read_run(exported / "sinusoid")])
    assert "protocol" in table.headers
    assert "The protocols differ" in table.caption
    assert "protocol" not in runs_text_table([read_run(exported / "one"), read_run(exported / "two")]).headers


def test_keys_that_tell_runs_apart_stand_beside_them(exported):
    table = runs_text_table([read_run(exported / "one"), read_run(exported / "two")])
    keys = [row[table.headers.index("keys")] for row in table.rows]
    assert "model.depth=2" in keys[1]
    assert "model.depth" not in keys[0]
    assert not any("execution" in text for text in keys)
    mine = [with_manifest(read_run(exported / name), recipe_name="mine") for name in ("one", "two")]
    table = runs_text_table(mine)
    assert [row[table.headers.index("keys")] for row in table.rows] == ["model.depth=1", "model.depth=2"]
