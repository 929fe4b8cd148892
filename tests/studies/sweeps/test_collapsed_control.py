"""The control of appended layers: collapsed before adaptation, adapted as a shallow network at its own best rate."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mamlcli.common.errors import RunError
from mamlcli.engine.linear_stack import collapse_head
from mamlcli.engine.networks import apply_network
from mamlcli.engine.objective import MetaParams
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.sweeps import collapsed_control
from mamlcli.studies.sweeps.axes import linear_sweep
from mamlcli.studies.sweeps.collapsed_control import (
    ControlRecord,
    best_rate,
    control_record,
    has_control,
    loss_of_guessing,
    read_control,
    shallow_recipe,
    write_control,
)
from mamlcli.studies.sweeps.finished import has_result
from mamlcli.tasks.synthetic import LinearRegressionTasks, LogisticTasks
from mamlcli.training.experiment import build
from mamlcli.training.scoring import evaluation_tasks, score
from mamlcli.training.trained import best_weights
from tests.helpers.studies import collected, recipe_of, run_here, start_of
