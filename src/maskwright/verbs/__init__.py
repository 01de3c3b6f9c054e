"""The shelf of commands: one file, one function each. Every command is also `maskwright.<name>` in Python; on the
command line `_` is `-`.

A verb imports the rooms it needs inside the function, so that `maskwright --help` stays light. What it returns has
`to_json() -> dict`, `show(console)` and `next`, the commands that are useful now.
"""

from maskwright.core.registry import Registry

VERBS: Registry = Registry(
    "command",
    {
        "demo": "maskwright.verbs.demo:demo",
        "check": "maskwright.verbs.check:check",
        "convert": "maskwright.verbs.convert:convert",
        "new": "maskwright.verbs.new:new",
        "preview": "maskwright.verbs.preview:preview",
        "train": "maskwright.verbs.train:train",
        "evaluate": "maskwright.verbs.evaluate:evaluate",
        "predict": "maskwright.verbs.predict:predict",
        "tune_thresholds": "maskwright.verbs.tune_thresholds:tune_thresholds",
        "export": "maskwright.verbs.export:export",
        "verify": "maskwright.verbs.verify:verify",
        "inspect": "maskwright.verbs.inspect:inspect",
        "report": "maskwright.verbs.report:report",
        "runs": "maskwright.verbs.runs:runs",
        "doctor": "maskwright.verbs.doctor:doctor",
        "explain": "maskwright.verbs.explain:explain",
    },
)
