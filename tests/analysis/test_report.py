"""``mfzoo report``: one page that holds everything, loads nothing, and escapes what it is given."""

import base64
import importlib
import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import synthetic_trees as synthetic
import xarray as xr

from analysis import save_tree
from analysis.cli import main
from analysis.cli.report import run_record
from analysis.diagnostics import assess_all
from analysis.report.page import RunRecord, render, report
from analysis.schemes.compare import COLUMNS, row_of

VOID = {"meta", "img", "br", "hr", "link", "input"}
HOSTILE = "<script>\"x\" & 'y'</script>"


class Page(HTMLParser):
    """The elements and the text of a page; fails where a tag is left open or closed twice."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def trees():
    """NUTS that drew from the posterior, a guide that is too narrow, and a theory."""
    data, params, tree = synthetic.good_run(0)
    rng = np.random.default_rng(1)
    narrow = {"w": params["w"], "a": 0.3 * params["a"]}
    stats = {"log_p": synthetic.log_joint(data, narrow), "log_q": rng.normal(size=(4, synthetic.DRAWS))}
    guide = synthetic.tree_of(data, narrow, "mf-guide", stats, independent=True)
    theory = synthetic.tree_of(data, params, "mean-field", independent=True)
    theory.attrs["settings"] = json.dumps({"theory": "mean-field"})
    return {"nuts": tree, f"guide {HOSTILE}": guide, "theory": theory}


@pytest.fixture(scope="module")
def verdicts(trees):
    return assess_all(trees)


@pytest.fixture(scope="module")
def source(trees, verdicts):
    row = {**dict.fromkeys(COLUMNS), "kappa": 0.5, "scheme": "mean-field", "prior": "isotropic"}
    row |= {"order_parameter": 0.12345678, "test_mse_draw": 1.5, "test_mse_mean": 1.25, "converged": True}
    given = {**trees, "theory": trees["theory"].copy()}
    given["theory"].attrs["row"] = json.dumps(row)
    run = RunRecord(HOSTILE, f"mfzoo compare --data {HOSTILE}", {"data": HOSTILE})
    return render(given, verdicts, HOSTILE, [run])


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


def test_the_page_loads_nothing(source, page):
    assert not re.search(r"https?://|url\(|@import", source)
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object")
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)


def test_links_within_the_page_arrive(page):
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)
    links = {a["href"].removeprefix("#") for tag, a in page.elements if tag == "a"}
    assert len(links) > 8
    assert links <= set(identifiers)


def test_every_figure_is_a_picture_with_a_text_in_its_place(page):
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len([tag for tag, _ in page.elements if tag == "figure"]) == len(pictures)
    # three of the comparison, five of the posterior, neurons of three results, the energy of NUTS
    assert len(pictures) == 3 + 5 + 3 + 1
    for attributes in pictures:
        head, _, body = attributes["src"].partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(body, validate=True).startswith(b"\x89PNG")
        assert len(attributes["alt"]) > 40


def test_every_result_verdict_and_check_is_told(page, trees, verdicts):
    text = page.text
    for label, verdict in verdicts.items():
        assert label in text
        for sentence in verdict.sentences:
            assert " ".join(sentence.split()) in text
        for check in verdict.checks:
            assert " ".join(check.message.split()) in text
    failed = sum(len(verdict.failures()) for verdict in verdicts.values())
    marks = [a["class"] for _, a in page.elements if "mark" in a.get("class", "").split()]
    assert failed > 0
    assert text.count("✗ failed") == failed
    # Never colour alone: each mark is a symbol and a word.
    words = "nothing against it|do not trust|not judged|passed|note|failed|not checked"
    assert len(re.findall(f"[✓✗!–] (?:{words})", text)) >= len(marks) > 20


def test_a_doubtful_result_is_not_praised(page, verdicts):
    cards = [a["class"] for tag, a in page.elements if tag == "article"]
    assert cards == ["card is-good" if v.trusted else "card is-bad" for v in verdicts.values()]
    assert cards.count("card is-bad") == 1
    assert "3 results of 1 posterior, 2 with nothing against them." in page.text


def test_what_is_given_is_escaped(source, page):
    assert "<script" not in source
    assert page.text.count(HOSTILE) > 8
    assert sum(HOSTILE in attributes.get("alt", "") for _, attributes in page.elements) > 3


def test_the_row_of_a_fixed_point_is_the_one_given(page, trees, verdicts):
    assert "0.123" in page.text
    drawn = row_of(trees["theory"], verdicts["theory"].diagnosis)
    assert f"{drawn['order_parameter']:.3f}" != "0.123"
    assert "Figures of a theory are those of its fixed point." in page.text


def test_the_page_is_written_whole_or_not_at_all(trees, verdicts, tmp_path, monkeypatch):
    module = importlib.import_module(
        "analysis.report.page"
    )  # whose name in the package is that of its function
    monkeypatch.setattr(module, "assess_all", lambda *args, **options: verdicts)
    monkeypatch.setattr(module, "render", lambda *args: "<p>whole</p>")
    path = tmp_path / "new" / "report.html"
    assert report(trees, path).read_text() == "<p>whole</p>"
    monkeypatch.setattr(Path, "write_text", _full_disk)
    with pytest.raises(ValueError, match="cannot write"):
        report(trees, path)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    assert path.read_bytes() == b"<p>whole</p>"


def _full_disk(path, *args, **options):
    path.write_bytes(b"<p>wh")
    raise OSError(28, "No space left on device")


def test_what_is_no_result_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one result"):
        report({}, tmp_path / "report.html")
    with pytest.raises(ValueError, match="'empty' is no result"):
        report({"empty": xr.DataTree()}, tmp_path / "report.html")
    with pytest.raises(ValueError, match="is a folder"):
        report({}, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def folder(trees, tmp_path_factory):
    """A folder of mfzoo compare with a theory alone, whose checks are quick."""
    folder = tmp_path_factory.mktemp("runs") / "compare"
    row = {**dict.fromkeys(COLUMNS), "kappa": 0.5, "scheme": "mean-field", "prior": "isotropic"}
    row |= {"order_parameter": 0.12345678, "test_mse_draw": 1.5, "test_mse_mean": 1.25, "converged": True}
    theory = trees["theory"].copy()
    theory.attrs["row"] = json.dumps(row)
    save_tree(xr.DataTree.from_dict({"/theory": theory}), folder / "run.nc")
    settings = {"command": "compare", "version": "0.1.0", "problem": {"width": 4}, "inputs": {"data": None}}
    settings |= {"output": {"seed": 3}, "kappas": [0.5], "described": {"teacher": "SparseParity(...)"}}
    settings |= {"command_line": "mfzoo compare --width 4 --seed 3 --kappas 0.5"}
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder


def test_the_command_reports_on_a_folder(folder, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", str(folder), "--out", str(out), "--title", "A & B"]) == 0
    assert str(out) in capsys.readouterr().err.replace("\n", "")
    text = Page(out.read_text(encoding="utf-8")).text
    assert "mfzoo compare --width 4 --seed 3 --kappas 0.5" in text
    assert "A & B" in text
    assert "SparseParity(...)" in text
    assert "0.123" in text


def test_the_command_that_was_run_is_kept(tmp_path, capsys):
    arguments = ["solve", "--theory", "nngp", "--kappa", "0.3", "--out", str(tmp_path / "a b")]
    assert main(arguments) == 0
    kept = json.loads((tmp_path / "a b" / "settings.json").read_text())["command_line"]
    assert shlex.split(kept) == ["mfzoo", *arguments]


def test_bad_input_gets_one_sentence(folder, tmp_path, capsys):
    for arguments, said in (
        ([], "name at least one"),
        ([str(tmp_path / "none")], "does not exist"),
        ([str(folder), "--out", str(tmp_path)], "ends in .html"),
        ([str(folder), "--out", str(tmp_path / "a.html"), "--seed", "-1"], "seed"),
    ):
        assert main(["report", *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.strip().count("\n") == 0
    (tmp_path / "settings.json").write_text('{"command": "compare"}')
    with pytest.raises(ValueError, match="is damaged"):
        run_record(tmp_path)


def test_a_run_without_settings_has_no_command(tmp_path):
    assert run_record(tmp_path).command is None
