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

import pytest
from markdown_it import MarkdownIt

from mamlcli.common.errors import RunError
from mamlcli.common.words import one_line
from mamlcli.runs.entry import read_run
from mamlcli.runs.exports import export_runs, runs_text_table
from mamlcli.runs.text_tables import TextTable, escape_latex, escape_markdown, latex, latex_document
from tests.helpers.exported_runs import NASTY, train_one_of_each

FOREIGN = "Ωμέγα 中文"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_one_of_each(tmp_path_factory.mktemp("trained"))


def named(trained, *names):
    """Return runs that are the same but for their names, which no file system need hold."""
    run = read_run(trained / "one")
    return [
        dataclasses.replace(run, manifest={**run.manifest, "recipe_name": name}, path=run.path.parent / f"{n}")
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
        dataclasses.replace(run, manifest={**run.manifest, "recipe_name": "mine"})
        for run in (read_run(trained / "one"), read_run(trained / "two"))
    ]
    table = runs_text_table(mine)
    assert [row[table.headers.index("keys")] for row in table.rows] == ["model.depth=1", "model.depth=2"]
