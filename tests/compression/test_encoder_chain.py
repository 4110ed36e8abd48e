"""A KerasHub BERT classifier on its way to a device: tuned, pruned, stripped, one file a format."""

import keras
import numpy as np
import pytest

from kerastl import compression, export
from kerastl.training import FineTuner

TOKENS, VOCABULARY = 12, 40
WORDS = (7, 23)  # the class says which of these a text has


def texts(count, seed):
    """Token ids with one of `WORDS` at some place, padded; and which."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(24, VOCABULARY, (count, TOKENS))
    classes = rng.integers(0, 2, count)
    lengths = rng.integers(4, TOKENS + 1, count)
    mask = np.arange(TOKENS) < lengths[:, None]
    ids[np.arange(count), rng.integers(0, lengths)] = np.take(WORDS, classes)
    inputs = {
        "token_ids": ids * mask,
        "segment_ids": np.zeros_like(ids),
        "padding_mask": mask,
    }
    return {name: values.astype("int32") for name, values in inputs.items()}, classes


def fit(model, epochs, callbacks=()):
    x, y = texts(600, seed=0)
    model.compile(keras.optimizers.AdamW(3e-3), "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=epochs, verbose=0, callbacks=list(callbacks))


@pytest.fixture(scope="module")
def stages():
    """The answers after tuning, the pruned model, and what its pruning told."""
    import keras_hub

    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=VOCABULARY,
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        intermediate_dim=64,
        max_sequence_length=TOKENS,
        dropout=0.0,
    )
    inputs = {name: keras.Input((TOKENS,), dtype="int32", name=name) for name in backbone.input}
    head = keras.layers.Dense(2, activation="softmax", name="classes")
    model = FineTuner.from_model(keras.Model(inputs, head(backbone(inputs)["pooled_output"])))
    fit(model, 8)
    tuned = model.predict(texts(200, seed=1)[0], verbose=0).argmax(-1)
    pruning = compression.MagnitudePruning(0.6)
    fit(model, 6, [pruning])
    compression.strip(model)
    return tuned, model, pruning


@pytest.mark.slow
def test_pruning_reaches_the_encoder_and_keeps_what_was_learned(stages):
    tuned, model, pruning = stages
    x, y = texts(200, seed=1)
    pruned = model.predict(x, verbose=0).argmax(-1)
    assert (tuned == y).mean() > 0.9 and (pruned == y).mean() > 0.9
    inside = [path for path in pruning.sparsities[-1][1] if "transformer_layer" in path]
    assert len(inside) >= 12  # query, key, value, output and two of the feed-forward, twice
    assert compression.sparsity(model).sparsity > 0.5


@pytest.mark.parametrize("quantization", [None, "dynamic"])
def test_each_file_answers_as_the_pruned_model(stages, quantization, tmp_path):
    _, model, _ = stages
    x, y = texts(200, seed=1)
    labels = ["seven", "twenty-three"]
    path = tmp_path / "model.tflite"
    export.to_litert(model, path, quantization=quantization, labels=labels)
    found = export.parity(model, path, x, y)
    assert found.agreement >= (1.0 if quantization is None else 0.97)
    assert found.file_accuracy > 0.9


def test_int8_activations_lose_an_encoder_and_the_ladder_says_so(stages, tmp_path):
    """The masks of padding are large negative numbers: 256 steps over them leave nothing else."""
    _, model, _ = stages
    x, y = texts(200, seed=1)
    sample = texts(100, seed=0)[0]
    with pytest.raises(RuntimeError, match="does not repeat the model"):
        export.to_litert(
            model, tmp_path / "m.tflite", quantization="int8", representative_data=sample
        )
    assert not list(tmp_path.iterdir())
    path, ladder = tmp_path / "model.tflite", ("int8", "dynamic")
    result = export.to_litert_within(
        model, path, x, y, representative_data=sample, ladder=ladder, max_drop=0.02
    )
    assert [rung.name for rung in result.rungs] == ["int8", "dynamic"]
    assert result.chosen.name == "dynamic"
    assert result.chosen.size_bytes < 0.6 * result.baseline.size_bytes


def test_an_encoder_is_not_quantized_for_training_in_silence(stages):
    _, model, _ = stages
    report = compression.quantization_report(compression.quantize_aware(model, texts(50, 0)[0]))
    encoders = [path for path in report.floats if "transformer_layer" in path]
    assert len(encoders) == 2 and "composite" in report.floats[encoders[0]]
    assert report["classes"].dtype == "int8"
