"""What was done otherwise than the plan says."""

from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.claims.deviations import deviations
from mamlcli.studies.claims.plan import OpenedPlan
from tests.helpers.reproductions import LINREG, PACKED, opened, tiny_plan


def run_of(path, name, *, seed=100, **manifest):
    _, recipe = load_recipe("linear-regression", [f"seed={seed}"])
    folder = path / "linear-regression" / "cells" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    run = RunDirectory.create(folder, recipe, "linear-regression")
    run.update_manifest({"versions": {"mamlcli": "0"}, "git": None, "seed": seed, **manifest})
    return run


def test_a_reproduction_that_follows_its_plan_has_none(tmp_path):
    run_of(tmp_path, "depth-1-seed-100")
    assert deviations(opened(tiny_plan()), tmp_path, []) == ()


def test_families_that_are_left_out_or_lost_their_pack_are_named(tmp_path):
    plan = tiny_plan(families=(LINREG, PACKED), left_out=("Omniglot, MAML: its pack is not here",))
    assert deviations(opened(plan), tmp_path, [PACKED]) == (
        "left out of the scale: Omniglot, MAML: its pack is not here",
        "other regression: its pack is not here any more (mamlcli data fetch no-such-pack); not run",
    )


def test_runs_of_other_code_are_counted(tmp_path):
    for seed in (100, 101):
        run_of(tmp_path, f"depth-1-seed-{seed}", seed=seed, versions={"mamlcli": "9", "unknown": "1"})
    run_of(tmp_path, "depth-2-seed-100")
    assert deviations(opened(tiny_plan()), tmp_path, []) == ("2 runs with mamlcli 9, where the plan has 0",)


def test_the_build_of_a_kernel_is_no_deviation(tmp_path):
    run_of(tmp_path, "depth-1-seed-100", versions={"platform": "Linux-6.8.0-45-generic-x86_64-with-glibc2.39"})
    plan = tiny_plan(versions={"platform": "Linux-6.8.0-44-generic-x86_64-with-glibc2.39"})
    assert deviations(opened(plan), tmp_path, []) == ()


def test_seeds_that_are_not_the_plans_are_counted(tmp_path):
    run_of(tmp_path, "depth-1-seed-104", seed=104)  # the last look is at 100 to 103
    [words] = deviations(opened(tiny_plan()), tmp_path, [])
    assert words == "1 run of other seeds than the plan's; they decide nothing"


def test_trainings_that_diverged_are_named(tmp_path):
    reason = "iteration 3: expected finite losses. The inner loop diverged."
    run_of(tmp_path, "depth-1-seed-100", status="failed", reason=reason)
    run_of(tmp_path, "depth-2-seed-100", status="failed", reason="killed")
    [words] = deviations(opened(tiny_plan()), tmp_path, [])
    assert words == "1 run diverged and scored as guessing does: linear-regression/depth-1-seed-100"


def test_an_edited_plan_and_spent_hours_are_named(tmp_path):
    plan = tiny_plan()
    edited, spent = deviations(OpenedPlan(plan, "f" * 64), tmp_path, [], unfinished=4)
    assert edited.startswith("plan.json was changed after it was registered")
    assert "ffffffffffff" in edited
    assert plan.digest[:12] in edited
    assert spent.startswith("the hours were spent before the look at 4 seeds was complete")
