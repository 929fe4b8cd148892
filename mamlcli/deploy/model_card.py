"""This module writes the model card of exported weights: data, protocol, result, limits, and how to load them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from mamlcli.common.commands import command
from mamlcli.common.tables import PERCENT, with_interval
from mamlcli.recipe.files import recipe_to_tree
from mamlcli.recipe.given_schema import OutsideModel
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import ImageKeys
from mamlcli.runs.exports import protocol_words
from mamlcli.runs.report import RunReport
from mamlcli.runs.text_tables import escape_markdown

CONFIG_FORMAT = 1

# The keys of evaluation.json that stand in config.json.
_RESULT_KEYS = ("protocol", "curve", "final", "references")

_DATASETS = {
    "glyphs": "letters of many scripts, drawn from fonts",
    "omniglot": "Omniglot (Lake et al. 2015)",
    "cifar-fs": "CIFAR-FS (Bertinetto et al. 2019)",
    "fc100": "FC100 (Oreshkin et al. 2018)",
    "mini-imagenet": "mini-ImageNet (Vinyals et al. 2016; split of Ravi and Larochelle 2017)",
    "folder": "a folder of image classes of its maker's own",
    "linear-regression": "generated linear regressions",
    "logistic": "generated logistic classifications",
    "sinusoid": "generated sinusoids",
}

_TRANSDUCTIVE = (
    "Batch norm uses the statistics of the batch at hand and keeps none: the outputs for an image depend on the other "
    "images of the batch (transductive). Score a task's query set as one batch, as in the protocol above; a single "
    "image by itself gives another answer."
)


_BY_SUPPORT = (
    "Batch norm uses the statistics of the batch at hand and keeps none: the outputs for an image depend on the other "
    "images of the batch. In the protocol above they are the statistics of the support set alone; a batch of query "
    "images by itself gives other answers."
)


# What is said of an output layer by the values of inner.head.
_HEADS = {
    "learned": "",
    "zero": "The output layer is at zero at the start of every task. ",
    "shared": "The output layer starts every task with one learned row for all classes. ",
}


@dataclass(frozen=True)
class WeightsConfig:
    """Describes exported weights: all that is needed to rebuild the network, and the result it reached.

    Attributes:
        made_by: the version of mamlcli that trained them.
        recipe_name, recipe: of the run.
        weights: which of the run's weights, in words.
        input_shape, num_outputs, num_parameters: of the network.
        adapted: names of the parameters that the inner loop moves.
        inputs: what was done to inputs before the network saw them, in words.
        source: of images what they were made from, as their pack says it; None of other tasks.
        result: protocol, curve, final and references of evaluation.json; None where the weights were not scored.
    """

    made_by: str
    recipe_name: str
    weights: str
    recipe: Recipe
    input_shape: tuple[int, ...]
    num_outputs: int
    num_parameters: int
    adapted: tuple[str, ...]
    inputs: str
    source: Mapping[str, object] | None
    result: RunReport | None

    def to_json(self) -> dict[str, object]:
        """Return the content of config.json."""
        tree = recipe_to_tree(self.recipe)
        tree["execution"]["device"] = "auto"
        tree["tasks"].pop("path", None)  # a place on one machine
        result = None if self.result is None else self.result.to_json()
        source = {} if self.source is None else {"source": dict(self.source)}
        return {
            "format": CONFIG_FORMAT,
            "made_by": self.made_by,
            "recipe_name": self.recipe_name,
            "weights": self.weights,
            "model": tree["model"],
            "input_shape": list(self.input_shape),
            "num_outputs": self.num_outputs,
            "num_parameters": self.num_parameters,
            "dtype": self.recipe.execution.dtype,
            "is_classification": self.recipe.is_classification,
            "preprocessing": {"inputs": self.inputs, **source},
            "inner": {**tree["inner"], "adapted": list(self.adapted)},
            "result": result and {key: result[key] for key in _RESULT_KEYS},
            "recipe": tree,
        }


def model_card(config: WeightsConfig, *, has_adapt: bool) -> str:
    """Return README.md of exported weights.

    Args:
        config: what is known of the weights.
        has_adapt: whether module.py has `adapt`.
    """
    return _card(config, config.recipe_name, f"## How to load\n{_loading(config, has_adapt)}")


def shipped_card(config: WeightsConfig, name: str, *, training: str) -> str:
    """Return README.md of a trained model that ships with the package.

    Args:
        config: what is known of the weights.
        name: of the model.
        training: how it was trained, in words.
    """
    own = command("adapt", name, "--support", "DIR", "--query", "DIR")
    own = command("adapt", name, "--support", "DIR", "--query", "DIR")
    classify = f"    {own}\n" * isinstance(config.recipe.tasks, ImageKeys)
    use = (
        f"## How to use\n\n    {command('adapt', name)}\n{classify}"
        f"    {command('runs', 'export', name, '--weights', 'DIR')}\n\n"
        f'From Python: `run = mamlcli.load("{name}")`. Exported weights need torch and safetensors alone.'
    )
    return _card(config, name, use, training=f"## Training\n{training}")


def _card(config: WeightsConfig, name: str, use: str, *, training: str = "") -> str:
    parts = [
        _front_matter(config),
        f"# {escape_markdown(name)}",
        _what(config),
        training,
        f"## Data\n{_data(config)}",
        f"## Result\n{_result(config)}",
        f"## Limits\n{_limits(config)}",
        use,
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _front_matter(config: WeightsConfig) -> str:
    """Return the metadata block that the Hugging Face hub reads; its values are written as JSON, which is YAML."""
    source, algorithm = config.recipe.tasks.source, config.recipe.inner.algorithm
    values: dict[str, object] = {
        "library_name": "pytorch",
        "tags": ["meta-learning", "few-shot-learning", algorithm, "mamlcli"],
    }
    if config.result is not None:
        metric = "accuracy" if config.result.has_accuracy else "loss"
        task = {"type": "few-shot-learning", "name": "few-shot learning"}
        score = config.result.final.of(metric)
        number = {"type": metric, "name": f"query {metric} after adaptation", "value": score and score.mean}
        result = {"task": task, "dataset": {"type": source, "name": source}, "metrics": [number]}
        values["metrics"] = [metric]
        values["model-index"] = [{"name": config.recipe_name, "results": [result]}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=True)}" for key, value in values.items()]
    return "\n".join(["---", *lines, "---"])


# By inner.rates, what steps are called.
_RATES = {
    "fixed": "rate {lr:g}",
    "tensor": "a learned rate for each parameter tensor (at the start {lr:g})",
    "step": "a learned rate each (at the start {lr:g})",
    "tensor-step": "a learned rate for each parameter tensor and step (at the start {lr:g})",
}


def _what(config: WeightsConfig) -> str:
    model, inner = config.recipe.model, config.recipe.inner
    assert not isinstance(model, OutsideModel), "weights of a module that is given are not exported"
    shape = " x ".join(map(str, config.input_shape))
    transform = inner.transform.name
    uses = "" if transform == "none" else f", with the gradient transform {transform}"
    steps = f"{inner.steps} gradient step{'s' * (inner.steps != 1)}"
    return (
        f"An initialisation learned by {inner.algorithm.upper()}{uses}: a network ({model.kind}, depth "
        f"{model.depth}, {config.num_parameters:,} parameters) that is adapted to a new task by "
        f"{steps} of {_RATES[inner.rates].format(lr=inner.lr)} on the task's support set. Inputs: "
        f"{shape}; outputs: "
        f"{config.num_outputs}. {_HEADS[inner.head]}Without adaptation its outputs mean nothing. Weights: "
        f"{escape_markdown(config.weights)}. Made by {config.made_by}."
    )


def _data(config: WeightsConfig) -> str:
    source = config.recipe.tasks.source
    text = f"Meta-trained on {_DATASETS.get(source, source)} (`{source}`). Inputs: {config.inputs}."
    for key, value in (config.source or {}).items():
        words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        text += f"\n- {key}: {escape_markdown(words)}"
    return text


def _result(config: WeightsConfig) -> str:
    if config.result is None:
        return "These weights were not scored."
    final = config.result.final
    words = [f"query loss {with_interval(final.loss)}"]
    if config.result.has_accuracy:
        words.insert(0, f"query accuracy {with_interval(final.accuracy, scale=PERCENT, digits=1)} %")
    return (
        f"After adaptation: {', '.join(words)} (mean and half-width of the 95 % interval over tasks). Protocol: "
        f"{escape_markdown(protocol_words(config.result.protocol))}."
    )


def _limits(config: WeightsConfig) -> str:
    tasks = config.recipe.tasks
    what = f"{tasks.ways}-way tasks" if isinstance(tasks, ImageKeys) else "tasks"
    head = config.recipe.inner.head
    # In mamlcli a head whose outputs all start the same is made for the classes at hand.
    fixed = "The number of outputs is fixed: it" if head == "learned" or not isinstance(tasks, ImageKeys) else "It"
    limits = [
        f"{fixed} is for {what} like those above; other data was not tried.",
        "The interval is over tasks; another training seed gives other weights and another result.",
    ]
    if getattr(config.recipe.model, "norm", "none") == "batch":
        limits.append(_BY_SUPPORT if config.recipe.evaluation.batch_norm == "support" else _TRANSDUCTIVE)
    if config.recipe.inner.rates != "fixed":
        limits.append(
            "Its inner learning rates were learned and are in `transform.safetensors`, by `<parameter name>/rate`; "
            "gradient steps of another rate are not what it was trained for."
        )
    if config.recipe.inner.transform.name != "none":
        limits.append(
            "Its inner loop transforms gradients; the transform's meta-parameters come with the weights (exported: "
            "`transform.safetensors`), and plain gradient steps are not what it was trained for."
        )
    return "\n".join(f"- {limit}" for limit in limits)


def _loading(config: WeightsConfig, has_adapt: bool) -> str:
    shape = ", ".join(map(str, config.input_shape))
    dtype = f"torch.{config.recipe.execution.dtype}"
    code = [
        "import torch",
        "from module import load  # in this folder; needs torch and safetensors alone",
        "network = load()",
        f"outputs = network(torch.rand(10, {shape}, dtype={dtype}))",
    ]
    text = "```python\n" + "\n".join(code) + "\n```\n\n"
    text += "With mamlcli installed, from anywhere: "
    text += "`from mamlcli.deploy.weights import load_module; network = load_module(DIR)`."
    if has_adapt:
        targets = "support_y: class indices, int64" if config.recipe.is_classification else "support_y: [n, 1]"
        more = [
            "from torch.func import functional_call",
            "from module import adapt",
            f"params = adapt(network, support_x, support_y)  # {targets}",
            "outputs = functional_call(network, params, (query_x,))",
        ]
        text += "\n\nTo adapt to a task:\n\n```python\n" + "\n".join(more) + "\n```"
    else:
        text += "\n\nTo adapt as in training, use the run itself: `mamlcli adapt RUN`."
    return text
