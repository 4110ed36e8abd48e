"""The `.tflite` of a run, compared with its model before the run is published."""

from kerastl import export

COMPARED = 64  # pictures on which file and model must agree


def write_device_file(run, model, images, labels=None):
    """Write `model.tflite` into `run`, compare it with `model`, return what `metrics.json` says.

    Args:
        run: `RunFolder`.
        model: `keras.Model`.
        images: Pixels 0 to 255 of shape `(n, height, width, 3)`; the first 64 are compared.
        labels: Class names to put into the file, or None.

    Returns:
        Dict with `size_bytes`, `max_abs_error` and `agreement` with Keras, `median_ms` of one
        picture at one thread, and `compared_on`, the number of pictures.
    """
    path = run.file("model.tflite")
    export.to_litert(model, path, labels=labels)
    parity = export.parity(model, path, images[:COMPARED].astype("float32"))
    return {
        "size_bytes": parity.size_bytes,
        "max_abs_error": parity.max_abs_error,
        "agreement": parity.agreement,
        "median_ms": parity.median_ms,
        "compared_on": parity.num_examples,
    }
