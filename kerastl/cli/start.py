"""Start TensorFlow without the lines it prints on its way."""

import logging


def start_tensorflow():
    """Import TensorFlow and Keras; raise what they raise, show nothing else.

    Their native parts write to the terminal before any log level counts, and TensorFlow's logger
    warns of retracing, which here is no mistake: each thaw traces the step anew.
    """
    from kerastl._quiet import quiet

    with quiet():
        import keras  # noqa: F401
        import tensorflow  # noqa: F401
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
