"""Names that look like markup, formulas, patterns or control codes are shown as they are, by every command."""

from __future__ import annotations

import csv
import html
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.image_files import noise
from tests.helpers.running import TINY, TINY_IMAGES, noise_pack

MARKUP = "[red]x[/] :smile: $a$_b* {0} %s <b>&amp;"  # of files and folders
CLASSES = ["[bold]one[red]", "two\nlines\ttab", "\x1b[31mred", "$x$_y :bug:", "\u202eright", 'a|b,"c"\';']
NOT_SHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def shows(cli):
    """Run a command that ends well; its output has these texts as they are, and no control character."""

    def run(*words: object, texts: tuple[str, ...] = (), code: int = 0) -> str:
        ended = cli(*words)
        assert ended.code == code, ended.err
        shown = ended.out + ended.err
        assert not NOT_SHOWN.search(shown)
        assert "\U0001f604" not in shown  # what :smile: would become
        together = re.sub(r"\s+", "", shown)  # tables fold
        missing = [text for text in texts if re.sub(r"\s+", "", text) not in together]
        assert not missing, shown
        return shown

    return run


def test_recipes_and_runs_with_hostile_names(shows, drawn_curves):
    recipe, run = f"{MARKUP.replace('/', '')}.yaml", f"runs/{MARKUP.replace('/', '')}"
    name = Path(recipe).stem
    shows("recipes", "cp", "sinusoid", recipe, texts=(f"Written: {recipe}",))
    shows("recipes", "check", recipe, texts=(f"{recipe}: ok",))
    shows("recipes", "check", recipe.replace("x", "y"), code=1, texts=(recipe.replace("x", "y"),))
    shows("train", recipe, *TINY, texts=(f"runs/{name}-1/curve.png", f"{name}: adaptation on 3 test tasks"))
    shows("train", recipe, *TINY, "seed=1", texts=(f"runs/{name}-2/curve.png",))
    assert "$a$_b* {0} %s <b>&amp;" in html.unescape(Path(f"runs/{name}-1/curve.svg").read_text(encoding="utf-8"))
    shows("runs", "ls", texts=("[red]x[] :smile: $a$_b*", "<b>&amp;-2"))
    shows("runs", "show", f"{name}-1", texts=(name,))
    shows("runs", "compare", f"{name}-1", f"{name}-2", texts=(name,))
    shows("adapt", f"{name}-1", "--tasks", 2, "--out", run, texts=(f"Written: {run}/evaluation.json",))
    shows("layers", f"{name}-1", "--tasks", 2, texts=(f"{name}, weights",))
    shows("runs", "export", f"{name}-1", f"{name}-2", "--format", "csv", texts=(name,))
    shows("train", recipe, *TINY, "--run-dir", f"runs/{name}-1", code=1, texts=(f"runs/{name}-1",))


def test_classes_with_hostile_names(shows, tmp_path):
    noise_pack(tmp_path / "data" / "[b] $x$.npz", [*CLASSES, *"abcdef"], shape=(8, 8, 3))
    pack = tmp_path / "data" / "[b] $x$.npz"
    shows("data", "ls", texts=("[b] $x$",))
    shows("data", "check", "[b] $x$", code=0)
    shows("data", "show", "[b] $x$", "--ways", 6, "--shots", 1, "--queries", 1, "--out", "[s] $x$.png")
    shows("data", "export", "[b] $x$", "--classes", 2, "--images", 2, "--out", "out", code=0)
    keys = (*TINY_IMAGES, f"tasks.path={pack}", "tasks.ways=2", "tasks.shots=1", "tasks.image_size=8")
    shows("train", "folder", *keys, "--run-dir", "r")


def test_predictions_of_classes_with_hostile_names(shows, tmp_path):
    photos = tmp_path / "photos"
    for index, (name, number) in enumerate((name, number) for name in [*CLASSES, *"abcdef"] for number in range(4)):
        (photos / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(1, 8, 8, 3, seed=index)[0]).save(photos / name / f"[i] {number}.png")
    keys = (*TINY_IMAGES, f"tasks.path={photos}", "tasks.ways=2", "tasks.shots=1", "tasks.image_size=8")
    shows("train", "folder", *keys, "inner.head=zero", "--run-dir", "r")
    support = ("adapt", "r", "--support", photos, "--query", photos)
    shows(*support, "--out", "p.csv", "--sheet", "p.png", texts=("[i] 0.png",))
    with Path("p.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert len({len(row) for row in rows}) == 1
    assert set(CLASSES) <= {cell for row in rows for cell in row}
