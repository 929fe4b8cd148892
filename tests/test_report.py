"""Reports: one content, two forms."""

import re

import numpy as np

from mamlcli.claims import ExactCheck, Study, decided
from mamlcli.decisions import Prediction
from mamlcli.report import Picture, report_blocks, to_html, to_markdown

PNG = b"\x89PNG not really"


def blocks():
    result = decided(
        "C2", "Deeper <adapts> better.", "The slope is negative.",
        [Prediction("glyphs: slope", np.array([-1.0, 0.5, -0.2]), -1)],
        checks=[ExactCheck("an identity", 1e-15, 1e-12)], missing=["omniglot: no pack"],
    )  # fmt: skip
    cell = {
        "value": {"depth": 1, "layers": 1, "optimizer": "kfo"}, "inner_lr": 0.1, "num_parameters": 1234,
        "num_transform_parameters": 5, "loss": {"mean": 0.5, "ci95_over_seeds": 0.1},
        "accuracy": {"mean": 0.8, "ci95_over_seeds": 0.02}, "num_parameters_collapsed": 1000,
        "at_fixed_rate": {"inner_lr": 0.4, "loss": {"mean": 0.6, "ci95_over_seeds": None}},
    }  # fmt: skip
    study = Study(
        "glyphs-maml",
        "glyphs, MAML",
        {"loss": {}, "accuracy": {}},
        {"cells": [cell], "seeds": [0, 1, 2], "chance_accuracy": 0.2},
    )
    return report_blocks(
        title="Claims", intro=["Scale smoke."], settings={"torch": "2.6"}, recipes={"glyphs": "seed: 0"},
        results=[result], studies=[study],
        pictures={"glyphs-maml": [Picture("glyphs-maml.png", PNG, "scores")]},
    )  # fmt: skip


def test_html_is_one_file_that_needs_no_network():
    text = to_html(blocks(), "Claims")
    assert "data:image/png;base64," in text
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert "Deeper &lt;adapts&gt; better." in text


def test_both_forms_say_the_same():
    markdown, page = to_markdown(blocks()), to_html(blocks(), "Claims")
    for text in ("C2: undecided", "0.500 ± 0.100", "80.0 ± 2.0", "1,234", "0.4: 0.600", "1e-12", "omniglot: no pack"):
        assert text in markdown, text
        assert text in page, text
    assert "![scores](glyphs-maml.png)" in markdown


def test_undecided_predictions_say_how_many_seeds_would_decide():
    assert re.search(r"about \d+ seeds", to_markdown(blocks()))
