"""The verbs, one file each: a command calls the public function of its name, and prints."""

from kerastl_cli.verbs.compare import compare
from kerastl_cli.verbs.compress import compress
from kerastl_cli.verbs.demo import demo
from kerastl_cli.verbs.distill import distill
from kerastl_cli.verbs.evaluate import evaluate
from kerastl_cli.verbs.export import export
from kerastl_cli.verbs.generate import generate
from kerastl_cli.verbs.inspect import inspect
from kerastl_cli.verbs.lr_find import lr_find
from kerastl_cli.verbs.predict import predict
from kerastl_cli.verbs.tune import tune

VERBS = (
    demo,
    tune,
    lr_find,
    compare,
    inspect,
    evaluate,
    predict,
    generate,
    compress,
    distill,
    export,
)
"""The command line: a click command for each verb, and nothing heavy imported before one runs."""
