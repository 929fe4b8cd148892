"""Reports: one content, two forms."""

import re
from dataclasses import replace

import numpy as np

from mamlcli.common.statistics import Score
from mamlcli.studies.claims.decisions import Prediction
from mamlcli.studies.claims.predictions import ExactCheck, Study, decided
from mamlcli.studies.claims.report import Picture, escape, report_markdown, to_html
from mamlcli.studies.sweeps.cell_result import CellResult, Collapse, CollapseRecord, CurvePoint, FixedRateScores
from mamlcli.studies.sweeps.scores import GridValue, StudyScores
from tests.helpers.studies import grid_result

PNG = b"\x89PNG not really"


PICTURE = Picture("glyphs-maml.png", PNG, "scores")


def markdown():
    result = decided(
        "C2",
        "Deeper <adapts> better.",
        "The slope is negative.",
        [Prediction("glyphs: slope", np.array([-1.0, 0.5, -0.2]), -1)],
        checks=[ExactCheck("an identity", 1e-15, 1e-12)],
        missing=["omniglot: no pack"],
    )
    final = StudyScores({"loss": Score(0.5, 0.1), "accuracy": Score(0.8, 0.02)}, "seeds")
    cell = CellResult(
        GridValue(1, "kfo", 1),
        (0, 1, 2),
        (),
        0.1,
        (CurvePoint(1, final),),
        1234,
        5,
        collapse=Collapse(1000, CollapseRecord(1234, 1000, 12, 0.0, 0.0, 1e-4)),
        at_fixed_rate=FixedRateScores(0.4, StudyScores({"loss": Score(0.6)}, "seeds")),
    )
    result_of_study = replace(grid_result(), cells=(cell,), chance_accuracy=0.2)
    study = Study("glyphs-maml", "glyphs, MAML", {"loss": {}, "accuracy": {}}, result_of_study)
    return report_markdown(
        title="Claims",
        intro=["Scale smoke."],
        settings={"torch": "2.6"},
        recipes={"glyphs": "seed: 0"},
        results=[result],
        studies=[study],
        pictures={"glyphs-maml": [PICTURE]},
    )


def test_html_is_one_file_that_needs_no_network():
    text = to_html(markdown(), "Claims", [PICTURE])
    assert "data:image/png;base64," in text
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert "Deeper &lt;adapts&gt; better." in text


def test_both_forms_say_the_same():
    text_form, page = markdown(), to_html(markdown(), "Claims", [PICTURE])
    for text in ("C2: undecided", "0.500 ± 0.100", "80.0 ± 2.0", "1,234", "0.4: 0.600", "1e-12", "omniglot: no pack"):
        assert text in text_form, text
        assert text in page, text
    assert "![scores](glyphs-maml.png)" in text_form


def test_undecided_predictions_say_how_many_seeds_would_decide():
    assert re.search(r"about \d+ seeds", markdown())


def test_plain_text_that_looks_like_markup_is_shown_as_it_is():
    text = "a *b* _c_ `d` <e> [f](g) h_i D* \\ x|y"
    page = to_html(escape(text), "t", [])
    assert "<p>a *b* _c_ `d` &lt;e&gt; [f](g) h_i D* \\ x|y</p>" in page


def test_figures_stand_in_a_figure_with_their_caption():
    page = to_html(markdown(), "Claims", [PICTURE])
    assert re.search(r'<figure><img alt="scores" src="data:[^"]+"><figcaption>scores</figcaption></figure>', page)
    assert page.count("<table>") == page.count("</table>") == 5
    assert page.count("<p>") == page.count("</p>")
