"""Run what README.md and the pages show, as it stands there: commands, and Python with its output.

    python .ci/examples.py [PAGE ...]

The README, commands included, without arguments. In a temporary folder, where the installed package
is found. The two commands that take long are left to .ci/run, which has them word for word.
"""

import contextlib
import io
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
NUMBER = re.compile(r"-?\d+(?:\.(\d*))?(?:e-?\d+)?")


def blocks(language: str, page: str = "README.md") -> list[str]:
    """The fenced blocks of a language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def agree(shown: str, printed: str) -> bool:
    """Whether two outputs differ by no more than three units of the last decimal that is shown:
    chains are other chains on another processor."""
    if NUMBER.sub("#", shown).split() != NUMBER.sub("#", printed).split():
        return False
    for one, other in zip(NUMBER.finditer(shown), NUMBER.finditer(printed), strict=True):
        margin = 3 * 10.0 ** -len(one[1] or "")
        if not math.isclose(float(one[0]), float(other[0]), abs_tol=margin):
            return False
    return True


def run_python(page: str) -> None:
    """All Python blocks as one program; a block with a file's name in its first line is that file.

    The blocks of text are what the first ones of Python print.
    """
    printed, names = [], {"__name__": "page"}
    for block in blocks("python", page):
        if (file := re.match(r"# (\w+\.py)\n", block)) is not None:
            Path(file[1]).write_text(block, encoding="utf-8")
            continue
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(block, page, "exec"), names)
        printed.append(out.getvalue())
        print(printed[-1], flush=True)
    for shown, found in zip(blocks("text", page), printed, strict=False):
        if not agree(shown, found):
            raise SystemExit(f"{page} shows\n{shown}\nand it prints\n{found}")


def run_commands() -> None:
    """Every shell block, but those that .ci/run has."""
    typed = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for block in blocks("sh"):
        if f"\n{block}" not in typed:
            print(f"$ {block}", flush=True)
            subprocess.run(["bash", "-ec", block], check=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for page in sys.argv[1:] or ["README.md"]:
            run_python(page)
        if not sys.argv[1:]:
            run_commands()
