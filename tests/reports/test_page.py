"""The page of a run: whole, self-contained, escaped, below its limit, and written whatever is missing from the folder."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fake_run import NAME, PARTS, fake_run
from PIL import Image

from maskwright.core.errors import DataError, SetupError
from maskwright.reports import page, words
from maskwright.reports.pictures import SIDES
from maskwright.verbs.report import report

CHROMIUM = Path("/usr/bin/chromium")
VOID_TAGS = {"meta", "link", "img", "path", "rect", "br"}
HOSTILE = "<script>alert(1)</script>"
BREAKING = "\"'><img src=x onerror=alert(2)> & </style></title>"


class Parsed(HTMLParser):
    """The tags with their attributes, the text of scripts and of the rest; fails on tags that do not close."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_run(tmp_path_factory.mktemp("runs") / NAME, shown=2)


@pytest.fixture(scope="module")
def parsed(run: Path) -> Parsed:
    return Parsed(page.render(run)[0])


def test_page_says_what_the_run_folder_knows(run: Path, parsed: Parsed) -> None:
    scores = json.loads((run / "scores.json").read_text())["test"]
    miou = scores["headlines"]["miou"]
    known = [
        NAME,
        "finished",
        f"{miou['value']:.3f}",
        f"{miou['low']:.3f} to {miou['high']:.3f}",
        f"{scores['images']['scored']} of {scores['images']['of']} images scored",
        f"{scores['pixels']['scored']:,} of {scores['pixels']['total']:,} pixels scored",
        scores["convention"].replace("`", "").split(" except ")[0],
        *PARTS,
        "maskwright train car-parts/trainingset train.epochs=12 --out runs",
        "2.15.0",
        "AMD EPYC 9575F",
        "7 min 48 s",
        "truncated: 31,442 of 58,210 bytes",
        "polygon reached 2 pixels beyond the image and was clipped and the like",
        "the same image is in train and val",
        "encoder: resnet34",
    ]
    missing = [text for text in known if text not in parsed.text]
    assert missing == []


def test_page_loads_nothing_and_runs_only_its_own_script(run: Path, parsed: Parsed) -> None:
    text = page.render(run)[0]
    for _, attributes in parsed.tags:
        for name in ("src", "href"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:", "#")), target
        assert not [name for name in attributes if name.startswith("on")]
    assert re.findall(r"@import|url\(|@font-face", text) == []
    policy = next(m["content"] for m in parsed.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    script = parsed.scripts[-1]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}'" in policy
    assert "default-src 'none'" in policy


def test_every_picture_is_inside_and_described(run: Path, parsed: Parsed) -> None:
    pictures = [i for i in parsed.all("img") if i.get("src")]
    index = json.loads((run / "pictures" / "index.json").read_text())
    assert len(pictures) == len(index["train"]) + 3 * len(index["val"])
    assert all(i["alt"] and i["src"].startswith("data:image/webp;base64,") for i in pictures)
    assert all(i["width"] and i["height"] for i in pictures)
    inside = {base64.b64decode(i["src"].partition(",")[2]) for i in pictures}
    assert inside == {file.read_bytes() for file in (run / "pictures").glob("*.webp")}


def test_tables_sort_from_the_keyboard(parsed: Parsed) -> None:
    heads = [a for tag, a in parsed.tags if tag == "th" and "aria-sort" in a]
    assert len(heads) > 20
    assert {h["aria-sort"] for h in heads} == {"none"}
    after = [parsed.tags[i + 1][0] for i, (tag, a) in enumerate(parsed.tags) if tag == "th" and "aria-sort" in a]
    assert set(after) == {"button"}


@pytest.mark.parametrize("hostile", [HOSTILE, BREAKING])
def test_names_from_outside_stay_text(tmp_path: Path, hostile: str) -> None:
    run = fake_run(
        tmp_path / "run", classes=("background", hostile, "b"), images=4, epochs=1, shown=1, hint=hostile, text=hostile
    )
    for name in ("events.jsonl", "run.json", "ledger.json", "scores.json", "pictures/index.json"):
        file, planted = run / name, json.dumps(hostile)[1:-1]
        text = file.read_text()
        for known in ("photos/IMG", "car-parts", "resnet34", "H100", "hidden", "Thumbs", "same image", "stratified"):
            text = text.replace(known, planted)
        file.write_text(text)
    (run / "recipe.yaml").write_text(f"# {hostile}\n")
    parsed, plain = Parsed(page.render(run)[0]), Parsed(page.render(fake_run(tmp_path / "plain", epochs=1))[0])
    assert len(parsed.all("script")) == len(plain.all("script")) == 2
    assert {tag for tag, _ in parsed.tags} == {tag for tag, _ in plain.tags}
    assert all((i.get("src") or "data:").startswith("data:") for i in parsed.all("img"))
    assert not [name for _, attributes in parsed.tags for name in attributes if name.startswith("on")]
    assert parsed.text.count(" ".join(hostile.split())) > 10
    for style in (attributes["style"] for _, attributes in parsed.tags if attributes.get("style")):
        assert re.fullmatch(r"[-a-z]+:[-a-z0-9(),.% ]+(;[-a-z]+:[-a-z0-9(),.%]+)*", style)


@pytest.mark.parametrize("name", ["run.json", "scores.json", "ledger.json", "events.jsonl", "pictures/index.json"])
@pytest.mark.parametrize("kept", [None, 0.0, 0.31, 0.5, 0.99])
def test_any_file_may_be_missing_or_cut_short(run: Path, tmp_path: Path, name: str, kept: float | None) -> None:
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / name
    if kept is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    text, notes = page.render(tmp_path / "run")
    parsed = Parsed(text)
    assert "Maskwright training report" in parsed.text
    told = kept is not None and name != "events.jsonl"
    assert any(name in note for note in notes) == told
    assert (f"{name} is cut short" in parsed.text) == told


@pytest.mark.slow
def test_any_value_may_be_null(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    for name in ("run.json", "scores.json"):
        file = tmp_path / "run" / name
        text = file.read_text()
        whole = json.loads(text)
        for path in paths(whole):
            file.write_text(json.dumps(with_null(whole, path)))
            Parsed(page.render(tmp_path / "run")[0])
        file.write_text(text)


def paths(value: object, path: tuple = (), depth: int = 4) -> list[tuple]:
    """The keys of a tree down to `depth`, of lists only the first and last item; matrices and per-image rows left out."""
    found = [path] if path else []
    if depth and isinstance(value, dict):
        found += [p for key, inner in value.items() for p in paths(inner, (*path, key), depth - 1)]
    elif depth and isinstance(value, list) and value:
        found += [p for key in {0, len(value) - 1} for p in paths(value[key], (*path, key), depth - 1)]
    return found


def with_null(value: object, path: tuple) -> object:
    if not path:
        return None
    changed = list(value) if isinstance(value, list) else dict(value)
    changed[path[0]] = with_null(changed[path[0]], path[1:])
    return changed


def test_a_run_that_failed_early_says_why(tmp_path: Path) -> None:
    what, hint = "memory ran out in epoch 1, step 3", "lower `train.batch` (now 16)"
    run = fake_run(tmp_path / "run", epochs=0, status="out of memory", hint=hint, text=what)
    (run / "scores.json").unlink(missing_ok=True)
    text = Parsed(page.render(run)[0]).text
    for known in (
        "out of memory",
        what,
        "lower train.batch (now 16)",
        "No epoch was finished",
        "5 folds, fold 0 held out",
    ):
        assert known in text
    assert "mean IoU" not in text


@pytest.mark.parametrize(("limit", "side", "fewer"), [(4_500_000, SIDES[1], False), (400_000, SIDES[-1], True)])
def test_page_stays_below_its_limit_and_says_what_it_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, side: int, fewer: bool
) -> None:
    monkeypatch.setattr(page, "LIMIT", limit)
    run = fake_run(tmp_path / "run", images=6, shown=2, epochs=2)
    folder, rng = run / "pictures", np.random.default_rng(0)
    for number in range(12):
        noise = Image.fromarray(rng.integers(0, 256, (480, 480, 3), dtype=np.uint8))
        noise.save(folder / f"noise-{number}.webp", "webp", quality=90)
    names = [f"noise-{number}.webp" for number in range(12)]
    entry = {"score": 0.5, "loss": 1.0, "image": names[0], "truth": names[1], "predicted": names[2]}
    val = [{**entry, "id": f"{rank}-{n}", "rank": rank} for rank in ("best", "worst") for n in range(8)]
    (folder / "index.json").write_text(json.dumps({"train": [{"file": name} for name in names], "val": val}))
    written = page.write(run)
    assert limit / 2 < written.size < limit
    text = Parsed(written.path.read_text()).text
    assert f"shrunk to {side} px" in text
    assert bool(re.search(r"\d+ of 28 pictures are shown", text)) == fewer
    assert all(note in text for note in written.notes)


def test_page_of_the_largest_run_stays_below_its_limit(tmp_path: Path) -> None:
    classes = ("background", *(f"class_{number:03d}_with_a_long_name" for number in range(254)))
    run = fake_run(tmp_path / "run", classes=classes, images=40, epochs=300, shown=4, side=480)
    assert page.write(run).size < page.LIMIT


def test_pictures_outside_the_folder_are_not_shown(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    secret = tmp_path / "secret.webp"
    Image.new("RGB", (9, 9), (1, 2, 3)).save(secret)
    (tmp_path / "run" / "pictures" / "text.webp").write_text("not a picture")
    (tmp_path / "run" / "pictures" / "link.webp").symlink_to(secret)
    names = ["../../secret.webp", str(secret), "text.webp", "link.webp", "missing.webp", "train-0.webp", None]
    index = tmp_path / "run" / "pictures" / "index.json"
    index.write_text(json.dumps({"train": [{"file": name} for name in names], "val": "nonsense"}))
    parsed = Parsed(page.render(tmp_path / "run")[0])
    assert len([i for i in parsed.all("img") if i.get("src")]) == 1
    assert "6 of 7 pictures (train) could not be read" in parsed.text


def test_the_verb_writes_the_page_beside_the_run_or_where_told(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    bundle = tmp_path / "run" / "bundle"
    bundle.mkdir()
    (bundle / "bundle.json").write_text("{}")
    result = report(str(bundle))
    assert Path(result.report) == tmp_path / "run" / "report.html"
    elsewhere = report(str(tmp_path / "run"), out=str(tmp_path / "there" / "page.html"))
    assert Path(elsewhere.report).read_bytes() == Path(result.report).read_bytes()
    assert elsewhere.to_json()["bytes"] == Path(elsewhere.report).stat().st_size
    assert result.next


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="maskwright runs"):
        report(str(tmp_path / name))


def test_without_jinja2_the_extra_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    page.template.cache_clear()
    with pytest.raises(SetupError, match=r"maskwright\[train\]"):
        page.render(run)


def test_page_needs_neither_torch_nor_data(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    heavy = "{'torch', 'cv2', 'matplotlib', 'hotcoco'}"
    script = (
        "import sys; from maskwright.verbs.report import report; "
        f"report({str(tmp_path / 'run')!r}); assert not {heavy} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("percent", 0.12345, "12.3\N{NO-BREAK SPACE}%"),
        ("percent", None, "–"),
        ("score", float("nan"), "–"),
        ("score", True, "–"),
        ("count", 1234567, "1,234,567"),
        ("duration", 192.4, "3 min 12 s"),
        ("day", "2026-11-20T14:03:11+01:00", "20 November 2026, 14:03"),
        ("day", None, ""),
        ("code", "a `b` <c>", "a <code>b</code> &lt;c&gt;"),
    ],
)
def test_words(name: str, value: object, expected: str) -> None:
    assert str(words.FILTERS[name](value)) == expected


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM.exists(), reason="no chromium at /usr/bin/chromium")
def test_a_browser_opens_the_page_without_a_complaint(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", classes=("background", HOSTILE, BREAKING), images=4, epochs=2, shown=1)
    written = page.write(run)
    done = browsed(written.path, tmp_path / "profile")
    assert "CONSOLE" not in done.stderr
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in done.stdout
    assert '<div class="plot" tabindex="0">' in done.stdout  # the script allowed by the policy ran


def browsed(file: Path, profile: Path) -> subprocess.CompletedProcess[str]:
    """A page in a browser: what it prints, and its complaints."""
    options = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=2000"
    )
    command = [str(CHROMIUM), *options.split(), f"--user-data-dir={profile}", "--dump-dom"]
    return subprocess.run([*command, file.as_uri()], capture_output=True, text=True, timeout=120, check=True)
