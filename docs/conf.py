"""How the documentation is built: ``sphinx-build -W -b html docs docs/_build/html``."""

import os
import re
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

# The tree itself, here and in the notebooks' processes, whatever is installed beside it.
ROOT = str(Path(__file__).parents[1])
sys.path.insert(0, ROOT)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH"))))

import analysis  # noqa: E402

project = "The mean-field zoo"
author = "The authors of the mean-field zoo"
project_copyright = author
release = version = installed_version("mean-field-zoo")

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["wide_tables.css"]
# An indented block is an equation or a command.
highlight_language = "none"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Notebooks run where their text or the code that they show has changed, and an error is one here.
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_output_stderr = "remove"  # progress, and what libraries say of the terminal

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc says what a parameter is; the signature has its type
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
# The reference lists what a package names in __all__, wherever in it that is declared.
autosummary_imported_members = True
autosummary_ignore_module_all = False
autosummary_context = {"offered_above": {"analysis.diagnostics": analysis.__all__}}


def as_restructured_text(app, what, name, obj, options, lines):
    """The house's docstrings, which are read in the source, as reStructuredText: an indented block
    before the sections is an equation, and |x| is no substitution."""
    in_sections = in_example = False
    text = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        in_sections |= bool(re.fullmatch("-{3,}", following.strip()))
        in_example = bool(line.strip()) and (in_example or line.lstrip().startswith(">>>"))
        equation = not in_sections and line.startswith("    ")
        if equation and text and not text[-1].strip():
            text += ["::", ""] if "::" not in text[-2:] else []
        if not (equation or in_example):
            line = re.sub(r"(``.*?``)|[|]", lambda found: found[1] or r"\|", line)
        text.append(line)
    lines[:] = text


def setup(app):
    """Before numpydoc, which reads the sections."""
    app.connect("autodoc-process-docstring", as_restructured_text, priority=100)
