"""A KerasHub BERT classifier on its way to a device: tuned, pruned, quantized, with figures.

A 6-layer encoder learns to tell spam from messages, from random weights (no pretrained ones are
local), is pruned to 60 % while it trains on, and is written as float, float16, dynamic-range and
int8 file. Each stage is compared with the one before on the test messages: accuracy, share of equal
answers, bytes, gzip, milliseconds of one message at one thread. Its int8 file is made by
calibration, since the layers of an encoder sit in composite layers, where nothing can be folded;
it is refused where the masks of padding, large negative numbers, leave no signal.

    python benchmarks/compress_encoder.py SMS_FOLDER [--layers 6] [--sparsity 0.6]

SMS_FOLDER holds train.tsv and test.tsv: a label, a tab and a message in each line.
"""

import argparse
import os
import pathlib
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

TOKENS, WIDTH, HEADS, VOCABULARY = 64, 128, 4, 4000
RESERVED = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
FORMATS = (None, "float16", "dynamic", "int8")


def read(path):
    """Messages and their classes, 1 for spam."""
    import numpy as np

    rows = [line.split("\t", 1) for line in path.read_text("utf-8").splitlines() if line]
    return [text for _, text in rows], np.array([label == "spam" for label, _ in rows], "int32")


def tokenizer_for(texts):
    """A BERT tokenizer whose word pieces come from `texts`."""
    import keras_hub
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(texts).batch(256)
    vocabulary = keras_hub.tokenizers.compute_word_piece_vocabulary(
        data, VOCABULARY, lowercase=True, reserved_tokens=RESERVED
    )
    return keras_hub.models.BertTokenizer(vocabulary, lowercase=True)


def build(vocabulary_size, layers):
    """A `FineTuner` over a new BERT encoder and a softmax head."""
    import keras
    import keras_hub

    from kerastl.training import FineTuner

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=vocabulary_size,
        num_layers=layers,
        num_heads=HEADS,
        hidden_dim=WIDTH,
        intermediate_dim=4 * WIDTH,
        max_sequence_length=TOKENS,
    )
    # A file has fixed sizes; a backbone of KerasHub takes messages of any length.
    inputs = {name: keras.Input((TOKENS,), dtype="int32", name=name) for name in backbone.input}
    head = keras.layers.Dense(2, activation="softmax", name="classes")
    return FineTuner.from_model(keras.Model(inputs, head(backbone(inputs)["pooled_output"])))


def train(model, x, y, epochs, rate, callbacks=()):
    import keras

    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.01, global_clipnorm=1.0),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        no_decay=True,
    )
    model.fit(x, y, batch_size=32, epochs=epochs, callbacks=list(callbacks), verbose=0)


def answers(model, x):
    return model.predict(x, batch_size=128, verbose=0).argmax(-1)


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--sparsity", type=float, default=0.6)
    arguments = parser.parse_args()

    import keras
    import keras_hub

    from kerastl import compression, export

    keras.utils.set_random_seed(0)
    (texts, y), (test_texts, test_y) = (
        read(arguments.folder / f"{part}.tsv") for part in ("train", "test")
    )
    tokenizer = tokenizer_for(texts)
    prepare = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=TOKENS)
    x, test_x = ({k: v.numpy() for k, v in prepare(part).items()} for part in (texts, test_texts))
    model = build(tokenizer.vocabulary_size(), arguments.layers)
    print(f"{arguments.layers} layers, {model.count_params():,} weights, {len(texts)} messages")

    row("stage", "accuracy", "as before", "zeros in kernels")
    row("---", "---", "---", "---")
    train(model, x, y, 3, 5e-4)
    tuned = answers(model, test_x)
    row("tuned", f"{(tuned == test_y).mean():.3f}", "", "0 %")
    pruning = compression.MagnitudePruning(arguments.sparsity)
    train(model, x, y, 3, 3e-4, [pruning])
    compression.strip(model)
    pruned = answers(model, test_x)
    found = sum(pruning.sparsities[-1][1].values()) / len(pruning.sparsities[-1][1])
    same = (pruned == tuned).mean()
    row("pruned", f"{(pruned == test_y).mean():.3f}", f"{same:.3f}", f"{found:.0%}")

    print()
    row("file", "accuracy", "as Keras", "bytes", "of float", "gzip", "ms", "of float", "int8 ops")
    row(*["---"] * 9)
    sample = {name: values[:100] for name, values in x.items()}
    with tempfile.TemporaryDirectory() as folder:
        plain = None
        for name in FORMATS:
            path = pathlib.Path(folder) / f"{name}.tflite"
            given = sample if name == "int8" else None
            try:
                export.to_litert(model, path, quantization=name, representative_data=given)
            except RuntimeError as error:
                row(name, *["-"] * 8)
                print(error, file=sys.stderr)
                continue
            found = export.parity(model, path, test_x, test_y)
            plain = plain or found
            row(
                name or "float",
                f"{found.file_accuracy:.3f}",
                f"{found.agreement:.3f}",
                f"{found.size_bytes:,}",
                f"{found.size_bytes / plain.size_bytes:.2f}",
                f"{found.gzip_bytes:,}",
                f"{found.median_ms:.2f}",
                f"{found.median_ms / plain.median_ms:.2f}",
                f"{found.int8_share:.0%}",
            )


if __name__ == "__main__":
    main()
