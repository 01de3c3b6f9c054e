"""The self-contained file in a web page: script and page of docs/self-contained.md as they stand there, in a headless browser.

Needs a Chromium, and onnxruntime-web: $MASKWRIGHT_ORT_WEB names the folder `dist` of that npm package; where there is npm,
`make test` installs it.
"""

import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_self_contained import REPOSITORY, described, finder, photo, written

from maskwright.bundles.bundle import Description
from maskwright.core.types import Instances, Prediction
from maskwright.exports import agreement, certificate

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
ORT = os.environ.get("MASKWRIGHT_ORT_WEB", "")
SIZE = (97, 131)  # of the photo
SECONDS = 180  # a browser gets to answer, beside other tests
TYPES = {"class_map": "uint8", "masks": "uint8", "boxes": "float32", "labels": "int64", "scores": "float32"}
DRIVER = """
const send = (what) => fetch("/answer", { method: "POST", body: JSON.stringify(what) });
const failed = (error) => send({ error: String(error?.stack || error) });
const pixels = (canvas) => Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data);
addEventListener("error", (event) => failed(event.message));
addEventListener("unhandledrejection", (event) => failed(event.reason));
try {
  const { segment } = await import("./segment.js");
  const photo = await (await fetch("photo.png")).blob();
  const canvas = document.createElement("canvas");
  const found = await segment(photo, canvas);
  const drawn = pixels(canvas);

  const chosen = new DataTransfer(); // as a person who picks the photo
  chosen.items.add(new File([photo], "photo.png"));
  const input = document.querySelector("input");
  input.files = chosen.files;
  input.dispatchEvent(new Event("change"));
  const wanted = drawn.join();
  while (pixels(document.querySelector("canvas")).join() !== wanted) await new Promise((done) => setTimeout(done, 50));

  const outputs = {};
  for (const [name, { type, dims, data }] of Object.entries(found)) {
    outputs[name] = { type, dims, data: Array.from(data, Number) };
  }
  await send({ drawn, outputs });
} catch (error) {
  await failed(error);
}
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.skipif(
        not ORT or not Path(ORT, "ort.wasm.bundle.min.mjs").is_file(),
        reason=f"no onnxruntime-web in MASKWRIGHT_ORT_WEB={ORT!r}; `make test` installs it where there is npm",
    ),
]


class Site(SimpleHTTPRequestHandler):
    """Serves a folder, and keeps what a page sends back."""

    extensions_map = {  # noqa: RUF012  # as the class above has it; machines differ in what they know of these
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def __init__(self, *given: Any, answers: "Queue[dict[str, Any]]", **known: Any) -> None:
        self.answers = answers
        super().__init__(*given, **known)

    def do_POST(self) -> None:
        self.answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is said of single requests."""


@pytest.fixture(autouse=True)
def times_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate takes the time of an answer; one turn is enough here."""
    monkeypatch.setattr(agreement, "WARM_UPS", 0)
    monkeypatch.setattr(agreement, "TURNS", 1)


@contextmanager
def browser(address: str, profile: Path) -> Iterator[None]:
    assert CHROMIUM is not None
    command = [CHROMIUM, *OPTIONS.split(), f"--user-data-dir={profile}", address]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        running.terminate()
        running.wait(timeout=20)


def opened(folder: Path, profile: Path) -> dict[str, Any]:
    """What the page in a folder sends back."""
    answers: Queue[dict[str, Any]] = Queue()
    site = functools.partial(Site, directory=str(folder), answers=answers)
    with ThreadingHTTPServer(("127.0.0.1", 0), site) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            with browser(f"http://127.0.0.1:{server.server_port}/index.html", profile):
                return answers.get(timeout=SECONDS)
        except Empty:
            pytest.fail(f"the page did not answer within {SECONDS} seconds")
        finally:
            server.shutdown()
            thread.join()


def shown(folder: Path, known: Description) -> tuple[dict[str, np.ndarray], np.ndarray, Prediction | Instances]:
    """A small random model in the page of the documentation: its outputs there, the canvas as uint8 RGB (H, W, 3), and what the
    Predictor says of the same photo."""
    site, profile, model = folder / "site", folder / "profile", folder / "model"
    for made in (site, profile, model):
        made.mkdir()
    text = (REPOSITORY / "docs" / "self-contained.md").read_text(encoding="utf-8")
    script, page = (re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) for language in ("javascript", "html"))
    assert (len(script), len(page)) == (1, 1)
    (site / "segment.js").write_text(script[0], encoding="utf-8")
    driver = '<script type="module" src="driver.js"></script>'
    (site / "index.html").write_text(f"<!doctype html><meta charset=utf-8>{page[0]}{driver}", encoding="utf-8")
    (site / "driver.js").write_text(DRIVER, encoding="utf-8")
    (site / "ort").symlink_to(Path(ORT).resolve())
    Image.fromarray(photo(SIZE)).save(site / "photo.png")

    source, answer = written(model, known)
    path = (model / "whole.onnx").rename(site / "model.onnx")
    judge = certificate.Judge(source.predictor, [site / "photo.png"], None)
    certificate.certify(source, answer, path, target="onnx", options={}, judge=judge, photos_of="photos", max_drop=1.0)

    back = opened(site, profile)
    assert "error" not in back, back["error"]
    assert {name: given["type"] for name, given in back["outputs"].items()}.items() <= TYPES.items()
    outputs = {
        name: np.array(given["data"], TYPES[name]).reshape(given["dims"]) for name, given in back["outputs"].items()
    }
    drawn = np.array(back["drawn"], np.uint8).reshape(*SIZE, 4)
    assert (drawn[..., 3] == 255).all()
    return outputs, drawn[..., :3], source.predictor(photo(SIZE))


@pytest.mark.parametrize("known", [{}, {"fit": "pad", "multilabel": True}])
def test_a_page_draws_the_classes_that_the_predictor_finds(tmp_path: Path, known: dict[str, Any]) -> None:
    torch.manual_seed(4)  # each class is somewhere, and where classes overlap some pixels have none
    description = described(**known)
    outputs, drawn, expected = shown(tmp_path, description)
    assert isinstance(expected, Prediction)
    class_map = outputs["class_map"]
    assert class_map.shape == SIZE
    assert set(np.unique(class_map)) == ({0, 1, 2, 3, 255} if description.multilabel else {0, 1, 2, 3})
    assert (class_map != expected.label_map).mean() <= 0.01
    if description.multilabel:
        assert np.mean(outputs["masks"] != expected.masks) <= 0.01
    else:
        assert set(outputs) == {"class_map"}
    painted = photo(SIZE).copy()
    for index, colour in enumerate(description.colours):
        painted[class_map == index] = colour
    np.testing.assert_array_equal(drawn, painted)


def test_a_page_draws_the_objects_that_the_predictor_finds(tmp_path: Path) -> None:
    known = finder()
    outputs, drawn, expected = shown(tmp_path, known)
    assert isinstance(expected, Instances)
    assert len(expected) >= 10
    assert set(outputs) == {"masks", "boxes", "labels", "scores"}
    assert abs(len(outputs["scores"]) - len(expected)) <= 1
    if len(outputs["scores"]) == len(expected):
        np.testing.assert_allclose(outputs["scores"], expected.scores, atol=1e-3)
        np.testing.assert_array_equal(outputs["labels"], expected.labels)
        np.testing.assert_allclose(outputs["boxes"], expected.boxes, atol=0.05)
        assert np.mean(outputs["masks"] != expected.masks()) <= 0.01
    painted = photo(SIZE).copy()
    for mask, label in list(zip(outputs["masks"], outputs["labels"], strict=True))[::-1]:
        painted[mask == 1] = known.colours[label]
    assert (painted != photo(SIZE)).any()
    np.testing.assert_array_equal(drawn, painted)
