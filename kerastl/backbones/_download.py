"""One clear error where pretrained weights cannot be fetched."""

import contextlib


@contextlib.contextmanager
def explained(what):
    """Turn a failed download inside the block into a ConnectionError with a remedy.

    Keras's downloader raises a bare Exception whose text starts with "URL fetch failure" (Keras
    3.15, `keras.utils.get_file`), KerasHub's passes on the OSErrors of `requests`; anything
    else goes through untouched.
    """
    try:
        yield
    except Exception as error:
        network = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
        if not network and "URL fetch failure" not in str(error):
            raise
        raise ConnectionError(
            f"The weights of {what} could not be downloaded: {error}. "
            "Check the connection, or pass `weights=PATH` for a file you have "
            "(`weights=None` starts from random weights)."
        ) from error
