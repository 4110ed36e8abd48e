"""Silence for native code that prints to the terminal on every call."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

_KEPT = 2000  # characters of the log that an error carries


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what is written to the file descriptors 1 and 2 inside the block.

    The converter and the runtime print from C++, out of the reach of `redirect_stdout`. If the
    block raises, the end of what they said goes along as a note of the exception.
    """
    with tempfile.TemporaryFile() as log:
        with _redirected(log):
            error = None
            try:
                yield
            except Exception as caught:
                error = caught
        if error is not None:
            log.seek(0)
            text = log.read().decode(errors="replace").strip()
            if text:
                error.add_note(f"What the native code printed last: {text[-_KEPT:]}")
            raise error


@contextlib.contextmanager
def _redirected(log):
    with contextlib.suppress(ValueError, OSError, AttributeError):  # a closed or missing stream
        sys.stdout.flush()
        sys.stderr.flush()
    saved = [(number, os.dup(number)) for number in (1, 2)]
    try:
        for number, _ in saved:
            os.dup2(log.fileno(), number)
        yield
    finally:
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)
