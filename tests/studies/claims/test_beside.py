"""Means over studies and operators of image networks, beside the claims."""

from dataclasses import replace

import numpy as np
import pytest

from mamlcli.common.errors import RunError
from mamlcli.studies.claims import beside
from mamlcli.studies.claims.beside import operator_grid, pooled_grid, study_operators
from mamlcli.studies.claims.contrasts import LOSS
from mamlcli.studies.layers.image_operators import HeadOperator
from tests.helpers.decided import claim, row
from tests.helpers.made_reproduction import made_reproduction

DONE = made_reproduction()
GLYPHS = next(study for study in DONE.studies if study.key == "glyphs-maml")


def of_study(key, differences, words="2 linear layers better than none"):
    found = row(words, "holds", differences=differences)
    return replace(found, contrast=replace(found.contrast, study=key), study_words=key)


def studies(**roles):
    return [replace(GLYPHS, key=key, role=role) for key, role in roles.items()]


def test_a_comparison_of_two_studies_has_its_mean_over_them_with_heterogeneity():
    # Means 0.3 and 0.5, standard errors 0.1 and 0.1: m_w = 0.4, Q = (0.1^2 + 0.1^2) / 0.1^2 = 2, I^2 = (2 - 1) / 2;
    # s^2 = 0.02, half-width = t_1(0.975) sqrt(0.02 / 2) = 1.2706; p = P(chi^2_1 > 2) = 0.157.
    rows = [of_study("glyphs", (0.2, 0.4)), of_study("omniglot", (0.4, 0.6))]
    grid = pooled_grid(claim("holds", rows), studies(glyphs="maml", omniglot="maml"))
    assert grid.rows == (
        ("2 linear layers better than none", "loss", "2", "+0.4000 [-0.8706, +1.6706]", "50 %", "2.0 (0.16)"),
    )


def test_studies_of_one_mean_have_no_interval_and_a_word_says_so():
    rows = [of_study("glyphs", (0.2, 0.4)), of_study("omniglot", (0.1, 0.5))]
    [row] = pooled_grid(claim("holds", rows), studies(glyphs="maml", omniglot="maml")).rows
    assert row[3] == "+0.3000 (all the same: no interval)"


def test_one_study_other_measures_other_words_and_other_roles_are_not_averaged():
    one, other = of_study("a", (0.1, 0.2)), of_study("b", (0.1, 0.3))
    roles = studies(a="maml", b="maml")
    assert pooled_grid(claim("holds", [one]), roles) is None
    assert pooled_grid(claim("holds", [one, other]), studies(a="linear-regression", b="logistic")) is None
    assert pooled_grid(claim("holds", [one, of_study("b", (0.1, 0.3), "another")]), roles) is None
    changed = replace(other, contrast=replace(other.contrast, measure="log_odds"))
    assert other.contrast.measure == LOSS
    assert pooled_grid(claim("holds", [one, changed]), roles) is None
    # A study of one seed has no standard error.
    assert pooled_grid(claim("holds", [one, of_study("b", (0.1,))]), roles) is None


def operator(seed, *gains):
    return HeadOperator("kfo", seed, ((np.eye(1), np.diag(gains)),))


def test_operators_are_compared_with_that_of_kfo_of_the_same_seed():
    stacks = [operator(100, 1.0, 1.0), operator(101, 1.0, 0.0)]
    kfo = [operator(100, 1.0, 0.0), operator(101, 1.0, 0.0)]
    grid = operator_grid({"glyphs, MAML": {"depth 1, 2 linear layers": stacks, "depth 1, kfo": kfo}})
    # diag(1, 0) is sqrt(1 - 1 / 2) = 0.71 from the identity; flat and (1, 0) have a cosine of 1 / sqrt 2.
    assert grid.rows[0][1:] == (
        "depth 1, 2 linear layers",
        "2",
        "0.35 (0.00 to 0.71)",
        "0.85 (0.71 to 1.00)",
        "0.71 (0.71 to 0.71)",
    )
    assert grid.rows[1][1:5] == ("depth 1, KFO", "2", "0.71 (0.71 to 0.71)", "-")


def with_runs(study):
    seeds = study.result.seeds
    cells = tuple(
        replace(cell, run_dirs=tuple(f"{cell.grid.layers}-{cell.grid.optimizer}-{seed}" for seed in seeds))
        for cell in study.result.cells
    )
    return replace(study, result=replace(study.result, cells=cells))


@pytest.fixture
def opened(monkeypatch):
    """The names of the runs whose operators are asked for."""
    names = []

    def of_run(path):
        names.append(path.name)
        return operator(int(path.name.split("-")[-1]), 1.0, 0.5)

    monkeypatch.setattr(beside.RunDirectory, "open", lambda path: path)
    monkeypatch.setattr(beside, "head_operator", of_run)
    return names


def test_operators_are_those_of_one_block_with_layers_and_with_kfo_at_the_seeds_of_the_first_look(opened):
    plan = replace(DONE.plan, looks=replace(DONE.plan.looks, seeds=(2,)))
    found = study_operators(plan, with_runs(GLYPHS))
    assert found.why_not == ""
    assert list(found.by_value) == ["depth 1, 2 linear layers", "depth 1, 3 linear layers", "depth 1, kfo"]
    assert opened == [f"{value}-{seed}" for value in ("2-none", "3-none", "0-kfo") for seed in (100, 101)]


def test_there_are_none_of_other_roles():
    assert study_operators(DONE.plan, replace(with_runs(GLYPHS), role="anil")) is None


def test_where_none_are_shown_there_is_a_reason(opened, monkeypatch):
    study = with_runs(GLYPHS)
    plain = tuple(cell for cell in study.result.cells if cell.grid.optimizer == "none")
    found = study_operators(DONE.plan, replace(study, result=replace(study.result, cells=plain)))
    assert (found.by_value, found.why_not[:31]) == ({}, "there is no finished run with K")
    monkeypatch.setattr(beside, "head_operator", lambda run: None)
    assert "too large" in study_operators(DONE.plan, study).why_not

    def no_checkpoint(run):
        raise RunError("/a/machine/run", expected="a checkpoint", got="none")

    monkeypatch.setattr(beside, "head_operator", no_checkpoint)
    assert study_operators(DONE.plan, study).why_not == "depth 1, 2 linear layers: expected a checkpoint, got none"
