"""The list of the zoo's priors, from their source text: to import them is to import JAX, a second."""

import ast
from importlib.util import find_spec
from pathlib import Path

from analysis.cli.output import console


def zoo_priors() -> dict[str, dict]:
    """By name what a prior's docstring says: ``summary``, ``density``, ``source``, ``features``; its
    ``class``, and its ``parameters`` with their defaults.

    >>> zoo_priors()["student-t"]["density"]
    'w_ij = (σ_w/√d) t_ij, t_ij ~ StudentT(ν)'
    """
    folder = Path(find_spec("models").origin).parent / "priors"  # found, not imported
    registry = ast.parse((folder / "registry.py").read_text(encoding="utf-8")).body
    modules = {
        name.name: each.module.rpartition(".")[2]
        for each in registry
        if isinstance(each, ast.ImportFrom)
        for name in each.names
    }
    table = next(each.value for each in registry if isinstance(each, ast.AnnAssign))
    names = dict(zip(map(ast.literal_eval, table.keys), (value.id for value in table.values), strict=True))
    return {name: _describe(name, folder / f"{modules[cls]}.py", cls) for name, cls in names.items()}


def _describe(name: str, file: Path, cls: str) -> dict:
    """The description of the class `cls` in `file`."""
    declared = ast.parse(file.read_text(encoding="utf-8")).body
    node = next(each for each in declared if isinstance(each, ast.ClassDef) and each.name == cls)
    parts = ast.get_docstring(node).split("\n\n")
    paragraphs = [" ".join(part.split()) for part in parts]
    labelled = dict(part.split(": ", 1) for part in paragraphs if part.startswith(("Source: ", "Features: ")))
    return {
        "name": name,
        "class": cls,
        "summary": paragraphs[0],
        "density": ", ".join(" ".join(line.rstrip(",").split()) for line in parts[1].splitlines()),
        "source": labelled["Source"].replace("*", ""),
        "features": labelled["Features"],
        "parameters": {
            field.target.id: ast.literal_eval(field.value)
            for field in node.body
            if isinstance(field, ast.AnnAssign)
        },
    }


def show_priors(rows: list[dict]) -> None:
    """Print descriptions such as those of :func:`zoo_priors`."""
    out = console(to_stderr=False)
    for row in rows:
        settings = ", ".join(f"{key}={value!r}" for key, value in row["parameters"].items())
        out.print(f"[bold]{row['name']}[/bold]({settings})", highlight=False, soft_wrap=True)
        for word in ("summary", "density", "features", "source"):
            if row[word]:
                out.print(f"    {row[word]}", highlight=False, soft_wrap=True, markup=False)
