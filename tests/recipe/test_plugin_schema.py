"""What plug-ins derive their keys from: without torch, from mamlcli by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mamlcli
from mamlcli.recipe.plugin_schema import BASES, FewShotKeys, NetworkKeys, TasksKeys, TransformKeys
from mamlcli.recipe.tasks_schema import ways_of


def test_bases_are_in_mamlcli_and_need_no_torch():
    assert (mamlcli.NetworkKeys, mamlcli.TasksKeys) == (NetworkKeys, TasksKeys)
    code = "import sys, mamlcli; mamlcli.TransformKeys, mamlcli.FewShotKeys; assert 'torch' not in sys.modules"
    root = str(Path(mamlcli.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": root})
    assert {base for bases in BASES.values() for base in bases} == {NetworkKeys, TasksKeys, FewShotKeys, TransformKeys}


def test_the_name_stands_first_and_classes_say_what_is_scored():
    class Three(TasksKeys):
        num_classes = 3

    assert next(iter(FewShotKeys.model_fields)) == "source"
    three = Three(source="three")
    assert (three.is_classification, ways_of(three), three.plugin_name) == (True, 3, "three")
    assert (FewShotKeys(source="few").is_classification, TasksKeys(source="points").is_classification) == (True, False)
