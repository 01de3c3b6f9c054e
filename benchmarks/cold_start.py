"""What a command costs before its model is loaded, and in all: CPU seconds and memory of fresh processes.

    python benchmarks/cold_start.py MODEL.onnx PHOTOS [--data LABELLED] [--python PYTHON] [--repeats 11]

PYTHON has `maskwright[onnx]` and no torch (left out: the Python that runs this). The moment is the call of
`onnxruntime.InferenceSession`: in each process that name stands for a function that notes what was used so far and then opens
the session as ever. Turns are interleaved, the first is not counted: it compiles the sources to bytecode, which lies in a
folder of its own, as any first start leaves it beside them. Medians are printed, of memory the peak.

What Python, numpy and onnxruntime cost by themselves is measured beside it. `evaluate` needs --data, `verify` a MODEL.onnx with
a certificate, as `maskwright export` writes it; verify reads the whole file to hold it against that.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

# sys.argv: where to note, then what to do: Python code, or `maskwright` with its arguments
CHILD = """
import atexit, json, resource, sys

def note(moment):
    used = resource.getrusage(resource.RUSAGE_SELF)
    try:
        peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
    except OSError:  # no Linux
        peak = used.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    with open(place, "a") as file:
        file.write(json.dumps([moment, used.ru_utime + used.ru_stime, peak]) + "\\n")

place, what, *arguments = sys.argv[1:]
atexit.register(note, "whole")  # the first that is registered runs last
if what != "maskwright":
    exec(what)
else:
    import onnxruntime

    opened = onnxruntime.InferenceSession

    def noted(*given, **options):
        note("before")
        return opened(*given, **options)

    onnxruntime.InferenceSession = noted
    from maskwright.cli import main

    main(arguments)
"""
ALONE = {"Python alone": "pass", "import numpy": "import numpy", "import onnxruntime": "import onnxruntime"}
HELP = "from maskwright.cli import main; main(['--help'])"
Noted = dict[str, tuple[float, float]]  # "before" the model, "whole" -> CPU seconds and megabytes until then


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--repeats", type=int, default=11)
    options = parser.parse_args()
    model, photos = str(options.model.resolve()), str(options.photos.resolve())
    wanted = {name: [code] for name, code in ALONE.items()} | {"maskwright --help": [HELP]}
    wanted["predict"] = ["maskwright", "predict", model, photos, "--out", "masks"]
    if options.data is not None:
        wanted["evaluate"] = ["maskwright", "evaluate", model, str(options.data.resolve()), "--part", "all"]
    wanted["verify"] = ["maskwright", "verify", model]
    with tempfile.TemporaryDirectory() as scratch:
        warm = {name: turn(options.python, arguments, Path(scratch)) for name, arguments in wanted.items()}
        runs = {name: arguments for name, arguments in wanted.items() if not isinstance(warm[name], str)}
        figures: dict[str, list[Noted]] = {name: [] for name in runs}
        for _ in range(options.repeats):
            for name, arguments in runs.items():
                noted = turn(options.python, arguments, Path(scratch))
                assert not isinstance(noted, str), noted
                figures[name].append(noted)
    print(f"{'CPU s and MB, medians':24}{'before the model':>20}{'in all':>20}")
    for name, found in figures.items():
        print(f"{name:24}{shown(found, 'before'):>20}{shown(found, 'whole'):>20}")
    for name, why in warm.items():
        if isinstance(why, str):
            print(f"{name:24}not measured: {why}")


def turn(python: str, arguments: list[str], scratch: Path) -> Noted | str:
    """What one fresh process noted; where it failed, its last words."""
    place = scratch / "notes"
    place.unlink(missing_ok=True)
    surroundings = {**os.environ, "PYTHONPYCACHEPREFIX": str(scratch / "bytecode")}
    surroundings.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [python, "-c", CHILD, str(place), *arguments]
    done = subprocess.run(command, cwd=scratch, env=surroundings, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
    return {moment: (cpu, mb) for moment, cpu, mb in map(json.loads, place.read_text().splitlines())}


def shown(turns: list[Noted], moment: str) -> str:
    if moment not in turns[0]:
        return ""
    cpu, mb = (statistics.median(figures) for figures in zip(*(noted[moment] for noted in turns)))
    return f"{cpu:.3f} {mb:7.1f}"


if __name__ == "__main__":
    main()
