"""Tests of `ckptctl plot`: the pictures themselves, where they are written, and what is refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import fabricate
import pytest
from conftest import ckptctl
from test_plot import checkpoint, shown

from ckptctl.naming import PRIVATE_PREFIX
from ckptctl.plotting.movement import Movement
from ckptctl.plotting.output import Kind
from ckptctl.plotting.picture import Axis, Metric
from ckptctl.plotting.rendering import rendered

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Invoke

    from ckptctl.model import Checkpoint
    from ckptctl.plotting.picture import Picture

SVG = "{http://www.w3.org/2000/svg}"
PNG = b"\x89PNG\r\n\x1a\n"
HOSTILE = "<script>alert(1)<\\script>]]>-->--!>&amp;\"'$\\frac{$\x1b[2J\n\u5b9e\u9a8c-1"


def drawn(picture: Picture, moved: Movement | None = None) -> ET.Element:
    """A picture as SVG."""
    return ET.fromstring(rendered(picture, moved, Kind.SVG))  # noqa: S314 - our own


def marks(root: ET.Element) -> dict[str, int]:
    """How many marks there are of each kind in each panel, by the identifier of their group."""
    return {
        group.get("id", ""): len(list(group.iter(f"{SVG}use")))
        for group in root.iter(f"{SVG}g")
        if re.fullmatch(r"[a-z]+-[a-z]+|latest|pinned|best", group.get("id", ""))
    }


def titles(root: ET.Element) -> list[str]:
    """What is told of the checkpoints, from left to right."""
    return [title.text or "" for title in root.iter(f"{SVG}title")]


def steps(count: int) -> list[Checkpoint]:
    """Complete checkpoints, a minute and 10 steps apart."""
    return [checkpoint(f"a-{at}", 10 * at, 1.6e9 + 60 * at) for at in range(1, count + 1)]


# --- the picture -----------------------------------------------------------------------------------------


def test_marks() -> None:
    """Every checkpoint is in each panel once, by what becomes of it; what stands out is marked besides."""
    metric = Metric("loss", {f"a-{at}": 1 / at for at in range(1, 8)}, ("a-7", "a-6"))
    last = checkpoint("a-9", 90, 1.6e9 + 540, latest=True, pinned=True)
    root = drawn(shown(*steps(8), last, keep=3, metric=metric))
    assert marks(root) == {
        "lane-goes": 6,
        "lane-kept": 3,
        "latest": 1,
        "pinned": 1,
        "size-goes": 6,
        "size-kept": 3,
        "value-goes": 6,
        "value-kept": 1,
        "best": 2,
        "other-goes": 6,
        "other-kept": 3,
    }
    assert len(titles(root)) == 9
    assert titles(root)[0].split("\n")[0] == "a-1"
    assert titles(root)[0].endswith("loss 1\nwould go: no rule keeps it")


@pytest.mark.parametrize("kind", Kind)
def test_same_picture_again(kind: Kind) -> None:
    """The same directory gives the same file."""
    moved = Movement((10.0, 20.0, 30.0), ("a", "b"), ((0.1, 0.0), (None, 0.5)), ("a note",))
    picture = shown(*steps(3), keep=1)
    assert rendered(picture, moved, kind) == rendered(picture, moved, kind)


def test_settings_of_others() -> None:
    """Neither a user's settings of matplotlib count, nor are they changed."""
    import matplotlib as mpl  # noqa: PLC0415 - heavy

    picture = shown(*steps(3))
    plain = rendered(picture, None, Kind.PNG)
    with mpl.rc_context({"axes.facecolor": "red", "font.size": 30, "text.usetex": True}):
        assert rendered(picture, None, Kind.PNG) == plain
        assert mpl.rcParams["font.size"] == 30


@pytest.mark.parametrize("axis", Axis)
@pytest.mark.parametrize(
    "checkpoints",
    [
        steps(1),
        [checkpoint(name, 5, 1e9) for name in "abc"],
        [checkpoint(f"a-{at}", 2**63 - 1 - at, 1e9 + at / 1000) for at in range(3)],
        [checkpoint(f"a-{at}", 1000**at, 1e9 + 1000**at) for at in range(4)],
        [checkpoint("a", -(2**63), -2.2e9), checkpoint("b", 2**63 - 1, 7.2e9)],
    ],
    ids=["one", "one place", "close and huge", "far apart", "extremes"],
)
def test_odd_places(checkpoints: list[Checkpoint], axis: Axis) -> None:
    """Whatever the steps and times are, there is a picture with a mark for each, and no warning."""
    found = marks(drawn(shown(*checkpoints, axis=axis)))
    assert (found["lane-complete"], found["size-complete"]) == (len(checkpoints), len(checkpoints))


@pytest.mark.parametrize(
    "moved",
    [
        Movement((10.0, 20.0), ("a",), ((0.0,),)),
        Movement((10.0, 20.0), ("a",), ((float("inf"),),)),
        Movement((10.0, 20.0), ("a",), ((None,),)),
        Movement((10.0, 20.0, 30.0), ("$a$" * 40, HOSTILE), ((1e-300, 1e300), (float("nan"), 0.0))),
    ],
    ids=["unmoved", "from nothing", "unknown", "extremes"],
)
def test_odd_movements(moved: Movement) -> None:
    """Whatever the movements are, there is a map of them, and no warning."""
    root = drawn(shown(*steps(3)), moved)
    assert [group for group in root.iter(f"{SVG}g") if group.get("id") == "movement"]


def test_odd_values() -> None:
    """Values that are all the same, and those far apart, have an axis."""
    for values in ({"a-1": 0.5, "a-2": 0.5}, {"a-1": -1e99, "a-2": 1e-99}, {"a-1": 0.0}):
        assert marks(drawn(shown(*steps(3), metric=Metric("loss", values))))["value-complete"] == len(values)


def test_many() -> None:
    """Ten thousand checkpoints make a file of bearable size; what stands too close is told of together."""
    picture = shown(*steps(10_000), keep=10)
    svg = rendered(picture, None, Kind.SVG)
    assert len(svg) < 1_000_000
    root = ET.fromstring(svg)  # noqa: S314 - our own
    assert marks(root)["lane-kept"] == 10
    found = titles(root)
    assert len(found) <= 500
    more = [int(re.findall(r"and ([\d,]+) more", text)[0]) for text in found if " more" in text]
    told = sum(text.count("saved ") for text in found)
    assert told + sum(more) == 10_000


def test_where_checkpoints_are_pointed_at() -> None:
    """The strips lie side by side, each around its checkpoint, within the picture."""
    root = drawn(shown(*steps(40)))
    width = float(root.get("viewBox", "").split()[2])
    (group,) = [one for one in root.iter(f"{SVG}g") if one.get("class") == "told"]
    spans = [(float(one.get("x", "")), float(one.get("width", ""))) for one in group.iter(f"{SVG}rect")]
    assert len(spans) == 40
    assert spans[0][0] >= 0
    assert spans[-1][0] + spans[-1][1] <= width
    assert all(x + wide <= after + 0.02 for (x, wide), (after, _) in pairwise(spans))


class _Tags(HTMLParser):
    """The elements and attributes of a page, and the texts of its titles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value or "" for name, value in attrs if name in {"href", "xlink:href", "src"}}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_names() -> None:
    """Nothing that the disk holds is taken for markup, fetched or run; it can be read all the same."""
    odd = checkpoint(HOSTILE, 1, 1e9, problem=HOSTILE)
    made = shown(odd, *steps(2), metric=Metric(HOSTILE, {HOSTILE: 1.0}, (HOSTILE,)))
    picture = type(made)(HOSTILE, HOSTILE, made.axis, made.marks, HOSTILE, made.best, (HOSTILE,))
    moved = Movement((1.0, 10.0, 20.0), (HOSTILE, "b"), ((0.1, 0.2), (0.1, 0.2)), (HOSTILE,))
    page = _Tags()
    text = rendered(picture, moved, Kind.HTML).decode()
    page.feed(text)
    page.close()
    plain = _Tags()
    plain.feed(rendered(shown(*steps(2)), None, Kind.HTML).decode())
    assert page.tags - {"image"} <= plain.tags | {"path", "lineargradient"}
    assert not {name for name in page.attributes if name.startswith("on")}
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert not re.search(r"url\((?!#)", text)
    assert "default-src 'none'" in text
    assert "<script>alert(1)<\\script>" in page.text
    assert "\x1b" not in text
    root = ET.fromstring(rendered(picture, moved, Kind.SVG))  # noqa: S314 - our own
    assert not list(root.iter(f"{SVG}script"))
    assert any(title.startswith("<script>alert(1)") for title in titles(root))


def test_page_has_its_colours() -> None:
    """A page is dark where the browser is: no text, line or paper keeps a colour of its own."""
    text = rendered(shown(*steps(3), keep=1), None, Kind.HTML).decode()
    assert "prefers-color-scheme: dark" in text
    (inline,) = re.findall(r"<svg.*</svg>", text, re.DOTALL)
    assert inline.count("var(--ink)") > 3
    assert not re.findall(r"#1f2328|#d0d7de|#fefefe|#000000|#ffffff|black|white", inline)


# --- the command -----------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of six checkpoints."""
    return fabricate.run(tmp_path / "run", 6)


def test_command(run: Path, tmp_path: Path, invoke: Invoke) -> None:
    """Rules, a metric and movements in each kind of file; nothing in the directory is touched."""
    (tmp_path / "m.csv").write_text("step,loss\n1,0.5\n2,nan\n3,0.25\n4,0.3\n5,0.4\n")
    before = fabricate.contents(run)
    options = ("--keep-best", "2", "--keep", "1", "--metrics", str(tmp_path / "m.csv"), "--weights")
    for kind, begins in ((".png", PNG), (".svg", b"<?xml"), (".HTML", b"<!DOCTYPE html>")):
        out = tmp_path / f"picture{kind}"
        result = invoke("plot", str(run), "-o", str(out), *options)
        # The tensors of the fabricated run are whole numbers.
        assert (result.exit_code, result.stdout) == (3, "")
        assert "no two checkpoints have layers to compare" in result.stderr
        assert not out.exists()
        result = invoke("plot", str(run), "-o", str(out), *options[:-1])
        assert (result.exit_code, result.stdout) == (0, f"{out}: 6 checkpoints\n")
        assert result.stderr == f"ckptctl: {run}: loss: 2 complete checkpoints without a value\n"
        assert out.read_bytes().startswith(begins)
    found = marks(ET.parse(tmp_path / "picture.svg").getroot())  # noqa: S314 - our own
    assert {name: count for name, count in found.items() if name.startswith(("lane", "best"))} == {
        "lane-kept": 3,
        "lane-goes": 3,
        "best": 2,
    }
    assert fabricate.contents(run) == before


def test_without_rules(run: Path, tmp_path: Path, invoke: Invoke) -> None:
    """Without rules there is no policy to show, and a metric is shown even so."""
    (tmp_path / "m.json").write_text('[{"step": 2, "accuracy": 0.5}, {"step": 3, "accuracy": 0.7}]')
    os.truncate(run / "ckpt-5.data-00000-of-00001", 3)
    out = tmp_path / "a.svg"
    options = ("--metrics", str(tmp_path / "m.json"), "--metric", "accuracy", "--mode", "max")
    result = invoke("plot", str(run), "-o", str(out), "--json", *options)
    assert json.loads(result.stdout) == {
        "file": str(out),
        "checkpoints": 6,
        "notes": ["accuracy: 3 complete checkpoints without a value"],
    }
    root = ET.parse(out).getroot()  # noqa: S314 - our own
    assert marks(root)["lane-complete"] == 5
    assert marks(root)["lane-saving"] == 1
    assert marks(root)["best"] == 1
    assert "keep" not in "".join(titles(root))


@pytest.mark.parametrize("rules", [(), ("--keep", "6")], ids=["alone", "with rules"])
def test_proven(run: Path, tmp_path: Path, invoke: Invoke, rules: tuple[str, ...]) -> None:
    """With --verify what is damaged is broken in the picture too."""
    data = run / "ckpt-3.data-00000-of-00001"
    data.write_bytes(b"\1" + data.read_bytes()[1:])
    out = tmp_path / "a.svg"
    assert invoke("plot", str(run), "-o", str(out), "--verify", *rules).exit_code == 0
    assert marks(ET.parse(out).getroot())["lane-broken"] == 1  # noqa: S314 - our own


@pytest.fixture
def occupied(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Beside the run, and in it, there is much that is called like a picture and is none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "dir.png").mkdir()
    (tmp_path / "notes.png").write_text("mine")
    (tmp_path / "link.png").symlink_to("run/checkpoint")
    (run / "v1-1.svg").write_bytes(fabricate.v1())
    (run / "v1-1.svg.meta").write_bytes(b"graph")
    (run / "other.html").write_text(fabricate.state_text(["ckpt-1"]))
    (fabricate.run(tmp_path / "torn", 2) / "checkpoint").write_text("model_ch")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("run",), 2, "--output"),
        (("run", "-o", "a.gif"), 2, "a.gif: a picture's name ends in .png, .svg, .html"),
        (("run", "-o", "a.png", "--keep", "0"), 2, "--keep 0"),
        (("run", "-o", "a.png", "--by", "size"), 2, "--by"),
        (("run", "-o", "none/a.png"), 3, "none: no such directory"),
        (("none", "-o", "a.png"), 3, "none: no such directory"),
        (("empty", "-o", "a.png"), 3, "empty: there are no checkpoints to draw"),
        (("run", "-o", "dir.png"), 4, "no regular file"),
        (("run", "-o", "link.png"), 4, "no regular file"),
        (("run", "-o", "notes.png"), 4, "it is there and no PNG"),
        (("run", "-o", "run/v1-1.svg"), 4, "it is there and no SVG"),
        (("run", "-o", "run/other.html"), 4, "it is there and no HTML"),
        (("run", "-o", "a.png", "--latest-filename", "a.png"), 4, "the state file's name"),
        (("torn", "-o", "a.png", "--keep", "1"), 4, "ckptctl repair"),
        (("run", "-o", "a.png", "--keep", "1", "--protect", "best"), 2, "--protect best names no checkpoint"),
        (("run", "-o", "a.png", "--protect", "best"), 2, "--protect best names no checkpoint in run"),
        (("run", "-o", "a.png", "--keep-step", "9"), 2, "--keep-step 9 is the step of no checkpoint in run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_refused(occupied: Path, invoke: Invoke, arguments: tuple[str, ...], code: int, said: str) -> None:
    """Nothing but an older picture is ever replaced, whatever a checkpoint's or a state file is called."""
    before = fabricate.contents(occupied)
    result = invoke("plot", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert fabricate.contents(occupied) == before


def test_replaced(run: Path, tmp_path: Path, invoke: Invoke) -> None:
    """An older picture makes way for the new one, whose mode it gives; no other name is left over."""
    out = run / "picture.png"
    out.write_bytes(PNG + b"old")
    out.chmod(0o640)
    assert invoke("plot", str(run), "-o", str(out)).exit_code == 0
    assert out.read_bytes().startswith(PNG)
    assert len(out.read_bytes()) > 1000
    assert out.stat().st_mode & 0o777 == 0o640
    assert not [name for name in os.listdir(run) if name.startswith(PRIVATE_PREFIX)]
    first = out.read_bytes()
    assert invoke("plot", str(run), "-o", str(out)).exit_code == 0
    assert out.read_bytes() == first
    (tmp_path / "empty.png").touch()
    assert invoke("plot", str(run), "-o", str(tmp_path / "empty.png")).exit_code == 0


def test_without_matplotlib(run: Path) -> None:
    """Where matplotlib is not installed that is said, and how to get it; help and usage do without it."""
    program = (
        "import sys; sys.modules['matplotlib'] = None; sys.argv[0] = 'ckptctl'\n"
        "from ckptctl.cli import main; main()"
    )

    def without(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", program, "plot", *arguments],
            cwd=run.parent,
            env={**os.environ, "CKPTCTL_STATE_READER": "protobuf"},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr

    code, said = without("run", "-o", "a.png")
    assert code == 3
    assert said == (
        "ckptctl: plot draws with matplotlib, which is not installed (matplotlib is missing): "
        "install ckptctl with its extra [plot], or `pip install matplotlib`\n"
    )
    assert without("--help") == (0, "")
    assert without("run", "-o", "a.gif")[0] == 2
    assert os.listdir(run.parent) == ["run"]


def test_nowhere_to_write_a_cache(run: Path, tmp_path: Path) -> None:
    """In a home that cannot be written to, and beside a stranger's settings, a user sees the result alone."""
    (tmp_path / "matplotlibrc").write_text("nonsense: 3\naxes.facecolor: red\n")
    environment = {"HOME": "/proc/none", "MPLCONFIGDIR": "/proc/none", "MATPLOTLIBRC": str(tmp_path)}
    out = str(tmp_path / "a.png")
    done = ckptctl("plot", str(run), "-o", out, PYTHONWARNINGS="error::UserWarning", **environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{out}: 6 checkpoints\n", "")
