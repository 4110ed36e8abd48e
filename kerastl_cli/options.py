"""Options that several verbs share."""

import click

AUGMENTATIONS = ("none", "light", "medium", "strong")
EXPORTS = ("none", "float", "float16", "dynamic", "int8")  # tune.config.EXPORTS
FORMATS = ("litert", "saved_model", "onnx")  # tune.export_config.FORMATS
IO_DTYPES = ("float32", "int8", "uint8", "int16")  # of export.quantization.MODES
QUANTIZE = ("none", "float16", "dynamic", "int8", "int16x8")  # tune.export_config.QUANTIZE
STRATEGIES = ("head", "partial", "full", "gradual", "lp_ft", "fastai")  # strategies.NAMES

_BACKBONE = (
    click.option(
        "--backbone",
        default="mobilenet_v2",
        show_default=True,
        help="Network of keras.applications, hub:PRESET, preset folder or .keras file.",
    ),
    click.option(
        "--weights",
        default="imagenet",
        show_default=True,
        callback=lambda context, option, value: None if value.lower() == "none" else value,
        help="'imagenet', 'none' for random ones, or a weights file.",
    ),
    click.option("--alpha", type=float, help="Width multiplier of networks that have one."),
    click.option(
        "--image-size",
        type=int,
        help="Side in pixels.  [default: 288 for weights trained at 224, else theirs]",
    ),
)

_RUN = (
    click.option("--strict", is_flag=True, help="Stop at files that are not readable pictures."),
    click.option(
        "--cache-dir", type=click.Path(), help="Folder for decoded pictures, if memory is short."
    ),
    click.option(
        "--out", type=click.Path(), help="Run folder.  [default: a new one in saved_models]"
    ),
    click.option("--overwrite", is_flag=True, help="Replace an earlier run at --out."),
    click.option("--json", "as_json", is_flag=True, help="Print metrics.json instead of a table."),
)


def backbone_options(command):
    """`--backbone`, `--weights` (None for 'none'), `--alpha` and `--image-size`."""
    return _with(_BACKBONE, command)


def run_options(command):
    """`--strict`, `--cache-dir`, `--out`, `--overwrite` and `--json`, of verbs that make a run."""
    return _with(_RUN, command)


def _with(options, command):
    for option in reversed(options):
        command = option(command)
    return command
