"""Small instances of real architectures, each built once, and their golden layer groups.

`python -m tests.golden.architectures > tests/golden/layer_groups.json` writes the table anew. Its
source is this program's output, read group by group against the listing of each network's layers
when it was written; the tests check its sums against `count_params`, which knows no groups.
"""

import functools
import json
import math
import re
import sys
import warnings

import keras

IMAGE = (64, 64, 3)
TEXT = {
    "vocabulary_size": 50,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 16,
    "max_sequence_length": 16,
}
DECODER = {
    "vocabulary_size": 50,
    "num_layers": 2,
    "num_query_heads": 2,
    "num_key_value_heads": 1,
    "hidden_dim": 8,
    "intermediate_dim": 16,
}
PATCHES = {
    "image_shape": (32, 32, 3),
    "patch_size": 8,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
}
STAGES = {
    "stackwise_num_filters": [64, 128],
    "stackwise_num_blocks": [2, 2],
    "stackwise_num_strides": [1, 2],
    "image_shape": (32, 32, 3),
}

APPLICATIONS = {
    "EfficientNetB0": {},
    "EfficientNetV2B0": {},
    "ResNet50": {},
    "ResNet50V2": {},
    "MobileNet": {"alpha": 0.25},
    "MobileNetV2": {"alpha": 0.35},
    "MobileNetV3Small": {"alpha": 0.75},
    "VGG16": {},
    "DenseNet121": {},
    "InceptionV3": {"input_shape": (75, 75, 3)},
    "InceptionResNetV2": {"input_shape": (75, 75, 3)},
    "Xception": {"input_shape": (71, 71, 3)},
    "NASNetMobile": {},
    "ConvNeXtTiny": {},
}
HUB = {
    "BertBackbone": TEXT,
    "RobertaBackbone": TEXT,
    "DistilBertBackbone": TEXT,
    "DebertaV3Backbone": TEXT,
    "AlbertBackbone": {**TEXT, "embedding_dim": 8},
    "ElectraBackbone": {
        **{"vocab_size" if k == "vocabulary_size" else k: v for k, v in TEXT.items()},
        "embedding_dim": 4,
    },
    "XLMRobertaBackbone": TEXT,
    "GPT2Backbone": TEXT,
    "T5Backbone": {k: v for k, v in TEXT.items() if k != "max_sequence_length"},
    "LlamaBackbone": DECODER,
    "GemmaBackbone": {**DECODER, "head_dim": 4},
    "ViTBackbone": {**PATCHES, "mlp_dim": 16},
    "DeiTBackbone": {**PATCHES, "intermediate_dim": 16},
    "DINOV2Backbone": {**PATCHES, "intermediate_dim": 16},
    "ResNetBackbone": {
        **STAGES,
        "input_conv_filters": [32, 32, 64],
        "input_conv_kernel_sizes": [3, 3, 3],
        "block_type": "bottleneck_block_vd",
    },
    "DenseNetBackbone": {
        "stackwise_num_repeats": [2, 2],
        "compression_ratio": 0.5,
        "growth_rate": 4,
        "image_shape": (32, 32, 3),
    },
    "EfficientNetBackbone": {
        "stackwise_width_coefficients": [1.0] * 3,
        "stackwise_depth_coefficients": [1.0] * 3,
        "stackwise_kernel_sizes": [3] * 3,
        "stackwise_num_repeats": [1, 2, 2],
        "stackwise_input_filters": [8] * 3,
        "stackwise_output_filters": [8] * 3,
        "stackwise_expansion_ratios": [1, 4, 4],
        "stackwise_squeeze_and_excite_ratios": [0.25] * 3,
        "stackwise_strides": [1, 2, 2],
        "stackwise_block_types": ["v1", "fused", "unfused"],
        "input_shape": (32, 32, 3),
    },
    "MobileNetBackbone": {
        "stackwise_expansion": [[40, 56], [64, 144, 144]],
        "stackwise_num_blocks": [2, 3],
        "stackwise_num_filters": [[16, 16], [24, 24, 24]],
        "stackwise_kernel_size": [[3, 3], [5, 5, 5]],
        "stackwise_num_strides": [[2, 1], [2, 1, 1]],
        "stackwise_se_ratio": [[None, None], [0.25, 0.25, 0.25]],
        "stackwise_activation": [["relu", "relu"], ["hard_swish"] * 3],
        "stackwise_padding": [[1, 1], [2, 2, 2]],
        "output_num_filters": 32,
        "depthwise_filters": 8,
        "depthwise_stride": 2,
        "depthwise_residual": False,
        "last_layer_filter": 64,
        "squeeze_and_excite": 0.5,
        "image_shape": (32, 32, 3),
    },
}
CV = {
    "ResNetBackbone": {
        "stackwise_filters": [64, 128],
        "stackwise_blocks": [2, 2],
        "stackwise_strides": [1, 2],
        "include_rescaling": True,
        "input_shape": (32, 32, 3),
    },
    "CSPDarkNetBackbone": {
        "stackwise_channels": [16, 32],
        "stackwise_depth": [1, 1],
        "include_rescaling": False,
        "input_shape": (32, 32, 3),
    },
}
# Language models, whose head is the embedding of tokens, turned round.
LM = {
    "GPT2CausalLM": TEXT,
    "LlamaCausalLM": {**DECODER, "tie_word_embeddings": True},
    "MistralCausalLM": DECODER,
    "GemmaCausalLM": {**DECODER, "head_dim": 4},
}
TABLES = {"hub": HUB, "lm": LM, "cv": CV}
NAMES = [*APPLICATIONS, *(f"{kind}.{name}" for kind, table in TABLES.items() for name in table)]


@functools.cache
def build(name):
    """The architecture of that name, with random weights, built once a process."""
    with warnings.catch_warnings():
        # KerasHub's T5 drops masks on its way through its own attention layer.
        warnings.filterwarnings("ignore", message=".*does not support masking.*")
        warnings.filterwarnings("ignore", message=".*looks like it has unbuilt state.*")
        return _build(*name.rpartition(".")[::2])


def _build(library, short):
    if library == "hub":
        import keras_hub

        return getattr(keras_hub.models, short)(**HUB[short])
    if library == "lm":
        import keras_hub

        task = getattr(keras_hub.models, short)
        return task(backbone=task.backbone_cls(**LM[short]), preprocessor=None)
    if library == "cv":
        import keras_cv

        return getattr(keras_cv.models, short)(**CV[short])
    options = {"input_shape": IMAGE, **APPLICATIONS[short]}
    return getattr(keras.applications, short)(include_top=False, weights=None, **options)


def describe(groups):
    """Family and, for each group, its layers, weights, first and last layer, as plain data."""
    rows = {
        name: {
            "layers": len(units),
            "weights": sum(math.prod(w.shape) for w in _weights(groups, name)),
            "first": _stable(units[0], groups),
            "last": _stable(units[-1], groups),
        }
        for name, units in groups.items()
    }
    return {"family": groups.family, "groups": rows}


def _weights(groups, name):
    weights = {id(w) for unit in groups[name] for w in unit.weights}
    return [v for v in groups.variables(name) if id(v) in weights]


def _stable(layer, groups):
    """The path of a layer, without the running number of a name that Keras made up."""
    words = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", type(layer).__name__)
    snake = re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()
    return re.sub(rf"((?:^|/){snake})_\d+$", r"\1", groups.path_of(layer))


def main():
    from kerastl.graph import layer_groups

    json.dump({name: describe(layer_groups(build(name))) for name in NAMES}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
