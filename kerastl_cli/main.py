"""Entry point of `kerastl`: finds the verb, turns errors into one line and an exit code."""

import contextlib
import difflib
import os
import re
import sys
import warnings
from collections.abc import Sequence

import click

from kerastl_cli.beside import beside
from kerastl_cli.verbs import VERBS

INTERRUPTED, BAD_INPUT = 1, 2


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 interrupted or failed on the way, 2 unusable input.",
)
@click.version_option(beside("_version").__version__, prog_name="kerastl")
def cli() -> None:
    """Exact, fast and visible transfer learning for Keras 3 on TensorFlow."""


for verb in VERBS:
    cli.add_command(verb)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with 0, 1 (interrupted, failed) or 2 (unusable input)."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _warnings_as_lines():
            cli.main(args=arguments, prog_name="kerastl", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return BAD_INPUT
    except click.ClickException as error:
        _say(_usage_line(error))
        return BAD_INPUT
    except (KeyboardInterrupt, click.Abort) as error:
        cause = error.__cause__ or error  # click turns a KeyboardInterrupt into its own
        _say(f"interrupted. {str(cause) or 'Nothing was written.'}")
        return INTERRUPTED
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        _say(_one_line(error))
        return BAD_INPUT
    except RuntimeError as error:
        _say(_one_line(error))
        return INTERRUPTED
    return 0


@contextlib.contextmanager
def _warnings_as_lines():
    """Show what the library warns its user of as a line, without the place in the source."""
    plain = warnings.showwarning

    def show(message, category, filename, lineno, file=None, line=None):
        if category is UserWarning and file is None:
            _say(f"warning: {' '.join(str(message).split())}")
        else:
            plain(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = plain


def _usage_line(error):
    """What click says of a wrong option, with the nearest choice, on one line."""
    message = " ".join(error.format_message().split())
    kind = getattr(getattr(error, "param", None), "type", None)
    context = getattr(error, "ctx", None)
    given = re.search(r": '([^']*)' is not one of", message)
    if given and isinstance(kind, click.Choice):
        near = difflib.get_close_matches(given[1], map(str, kind.choices), n=1, cutoff=0.0)
        message += f" Closest: {near[0]!r}."
    where = context.command_path if context is not None else "kerastl"
    return f"{message} `{where} --help` says more."


def _one_line(error):
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _say(message):
    click.echo(f"kerastl: {message}", err=True)
