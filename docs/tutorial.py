"""Run the commands of docs/tutorial.md as they stand there, and make its figures.

    python docs/tutorial.py

Everything runs in a temporary folder; the figures go to ``docs/figures/tutorial``.
"""

import contextlib
import os
import re
import shlex
import tempfile
from pathlib import Path

from PIL import Image

from analysis.cli import main

DOCS = Path(__file__).parent
FIGURES = {
    "runs/prior/prior_predictive.png": "prior_predictive.png",
    "runs/my-prior/order_parameters.png": "order_parameters.png",
    "runs/my-prior/second_moments.png": "second_moments.png",
    "runs/my-prior/weight_marginals.png": "weight_marginals.png",
    "runs/my-prior/traces-sgld-myprior-kappa0.1.png": "traces.png",
}
# The same commands on a problem that takes seconds, for the tests.
SMALL = {
    "--input-dim": "4",
    "--width": "4",
    "--num-data": "20",
    "--kappas": "0.3",
    "--schemes": "nuts,mf-guide",
}
SMALL_EXTRAS = {"compare": ["--num-test", "10"], "priors": ["--num-test", "10", "--num-draws", "40"]}
_WIDTH = 1000


def blocks(language: str) -> list[str]:
    """The fenced blocks of the tutorial in a language."""
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(small: bool = False) -> list[list[str]]:
    """The arguments of every ``mfzoo`` command of the tutorial; `small` puts the sizes of the tests
    in them."""
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    found = [shlex.split(line)[1:] for line in lines if line.startswith("mfzoo ")]
    if not small:
        return found
    scaled = []
    for command in found:
        pairs = zip(["", *command], command, strict=False)
        scaled.append([SMALL.get(previous, word) for previous, word in pairs])
        if "--out" in command:
            scaled[-1] += SMALL_EXTRAS[command[0]]
    return scaled


def run(folder: Path, small: bool = False) -> None:
    """Write the tutorial's prior to `folder`, and run its commands there."""
    (folder / "my_prior.py").write_text(blocks("python")[0], encoding="utf-8")
    with contextlib.chdir(folder):
        for command in commands(small):
            if main(command) != 0:
                raise SystemExit(f"failed: mfzoo {shlex.join(command)}")


def shrink(source: Path, target: Path) -> None:
    """A copy of a figure that weighs little: fewer pixels and colours."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as image:
        size = (_WIDTH, round(_WIDTH * image.height / image.width))
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        small.quantize(64).save(target, optimize=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        run(Path(place))
        for source, name in FIGURES.items():
            shrink(Path(place, source), DOCS / "figures" / "tutorial" / name)
            print(os.path.join("docs/figures/tutorial", name))
        print(Path(place, "runs/my-prior/table.csv").read_text(encoding="utf-8"))
