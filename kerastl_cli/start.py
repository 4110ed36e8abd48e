"""Start TensorFlow: without the lines it prints on its way, and with memory that it keeps."""

import logging
import os

from kerastl_cli.beside import beside

# By default TensorFlow 2.21 gives each large tensor on a processor back to the system and asks for
# it anew in the next operation, whose pages are then zeroed one by one: 166,000 page faults and
# 40 % of the time of a pass of MobileNetV2 over 32 pictures. Read when the first tensor is made.
KEEP_MEMORY = "TF_CPU_ALLOCATOR_USE_BFC"


def start_tensorflow() -> None:
    """Import TensorFlow and Keras; raise what they raise, show nothing else.

    Their native parts write to the terminal before any log level counts, and TensorFlow's logger
    warns of retracing, which here is no mistake: each thaw traces the step anew.
    """
    os.environ.setdefault(KEEP_MEMORY, "true")

    with beside("_base.quiet").quiet():
        import keras  # noqa: F401
        import tensorflow  # noqa: F401
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
