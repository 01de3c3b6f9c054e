"""The house stands: imports point down, nothing goes in circles, torch stays in its rooms."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import maskwright
from maskwright.exports import certificate, fingerprints
from maskwright.verbs import VERBS

SOURCE = Path(__file__).parents[1] / "src" / "maskwright"
FLOORS = {
    "core": 0,
    "imaging": 1,
    "data": 2,
    "metrics": 2,
    "tasks": 3,
    "bundles": 3,
    "models": 4,
    "prediction": 5,
    "exports": 6,
    "training": 7,
    "reports": 7,
    "verbs": 9,
    "": 10,  # cli.py, __init__.py, __main__.py
}
TORCH = {"torch", "torchvision", "segmentation_models_pytorch", "timm"}
TORCH_ROOMS = ("models/", "training/", "prediction/with_torch.py")
OPENCV_ROOMS = ("training/",)
FILES = sorted(SOURCE.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else ""


def imports(path: Path, top_only: bool = False) -> Iterator[str]:
    """Modules a file imports; with top_only those that are imported whenever the file is."""
    tree = ast.parse(path.read_text())
    nodes = _top(tree.body) if top_only else _all(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                yield deeper if deeper in MODULES else node.module


def _all(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from _all(node)


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        for field in ("body", "orelse", "handlers", "finalbody"):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield from _top(getattr(node, field, []))


MODULES = {module_of(path) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    own = room_of(module_of(path))
    for name in imports(path):
        if not name.startswith("maskwright."):
            continue
        other = room_of(name)
        allowed = FLOORS[other] < FLOORS[own] or other == own
        assert allowed, f"{path.relative_to(SOURCE)} (floor {FLOORS[own]}) imports {name} (floor {FLOORS[other]})"


def test_every_command_stays_a_function_of_the_package() -> None:
    """A room of the same name would take its place as soon as it is imported."""
    rooms = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in FILES}
    assert not rooms & {*VERBS, "load"}
    assert {*VERBS, "load", "__version__"} == set(maskwright.__all__)


def test_no_import_goes_in_circles() -> None:
    graph = {module_of(p): {n for n in imports(p) if n in MODULES} - {module_of(p)} for p in FILES}
    for shelf in ("maskwright", "maskwright.verbs"):  # the roof hands out what is below by name
        graph[shelf] = set()
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module in done:
            return
        for other in graph[module]:
            visit(other, (*path, module))
        done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_torch_and_opencv_stay_in_their_rooms(path: Path) -> None:
    where = path.relative_to(SOURCE).as_posix()
    top = {name.split(".")[0] for name in imports(path, top_only=True)}
    anywhere = {name.split(".")[0] for name in imports(path)}
    at_home = where.startswith(TORCH_ROOMS) and not where.endswith("__init__.py")
    assert at_home or not top & TORCH, f"{where} imports torch at its top"
    assert at_home or where.startswith(("exports/", "verbs/")) or not anywhere & TORCH, f"{where} imports torch"
    assert where.startswith(OPENCV_ROOMS) or "cv2" not in anywhere, f"{where} imports OpenCV"


def modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {line.split(".")[0] for line in result.stdout.splitlines()}


def test_help_imports_neither_torch_nor_numpy() -> None:
    code = "from maskwright.cli import run\nimport contextlib, io\nout = io.StringIO()\n"
    code += "with contextlib.redirect_stdout(out): run(['--help'])"
    assert not {"torch", "numpy", "PIL", "cv2", "onnxruntime"} & modules_after(code)


def test_shelves_list_their_names_without_torch() -> None:
    code = (
        "from maskwright.models import MODELS\nfrom maskwright.training import LOSSES, OPTIMIZERS, SCHEDULES, AUGMENTS\n"
        "from maskwright.data.formats import FORMATS\nfrom maskwright.exports import EXPORTERS\n"
        "assert all(list(t) for t in (MODELS, LOSSES, OPTIMIZERS, SCHEDULES, AUGMENTS, FORMATS, EXPORTERS))"
    )
    assert not {"torch", "cv2"} & modules_after(code)


def test_predicting_from_onnx_imports_no_torch() -> None:
    code = "import maskwright.prediction.with_onnx, maskwright.prediction.folders, maskwright.prediction.evaluation"
    assert not {"torch", "cv2"} & modules_after(code)


UNTIL_THE_MODEL_IS_LOADED = """
import onnxruntime
from maskwright.cli import run
class Loading(BaseException): pass
def load(*_, **__): raise Loading
onnxruntime.InferenceSession = load
try: run({arguments})
except Loading: pass
else: raise SystemExit("no model was loaded")
"""
NOT_YET = {"hotcoco", "pydantic", "yaml", "orjson", "rich", "email", "http", "asyncio", "zipfile", "csv"}
NEVER = TORCH | {"cv2", "onnx", "scipy", "matplotlib", "pandas", "jinja2", "huggingface_hub", "av", "lmdb"}


@pytest.mark.parametrize("verb", ["predict", "evaluate", "verify"])
def test_until_the_model_is_loaded_little_else_is(verb: str, tmp_path: Path) -> None:
    golden = Path(__file__).parent / "golden" / "bundle-1"
    model, photos = tmp_path / "model.onnx", tmp_path / "photos"
    shutil.copy(golden / "model.onnx", model)
    photos.mkdir()
    said = {"format": 1, "target": "onnx", "probe": {}, "fingerprints": fingerprints.of_file(model)}
    said |= {"description": json.loads(fingerprints.metadata_in(model)["maskwright"])}
    fingerprints.append_certificate(model, json.dumps({**said, "seal": certificate.sealed(said)}))
    for given in [[model]] if verb == "verify" else [[model, photos], [golden, photos]]:
        arguments = [verb, *(str(path) for path in given)]
        assert not (NEVER | NOT_YET) & modules_after(UNTIL_THE_MODEL_IS_LOADED.format(arguments=arguments))
