"""Models for the tests of the twin: every class with an equal, every node that is a layer there."""

import keras
import numpy as np
from keras import layers as kl
from keras import ops

# Layers with arguments that are not the defaults, by the shape they take.
LAYERS = {
    (8, 4): [
        kl.Conv1D(3, 3, padding="causal", dilation_rate=2),
        kl.Conv1DTranspose(3, 4, strides=2, padding="same"),
        kl.DepthwiseConv1D(3, depth_multiplier=2, padding="same"),
        kl.SeparableConv1D(5, 3, strides=2, activation="tanh"),
        kl.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d", activation="relu"),
        kl.MaxPooling1D(3, 2, "same"),
        kl.AveragePooling1D(3, 2, "same"),
        kl.GlobalMaxPooling1D(),
        kl.GlobalAveragePooling1D(keepdims=True),
        kl.ZeroPadding1D((1, 2)),
        kl.Cropping1D(1),
        kl.UpSampling1D(3),
        kl.SpatialDropout1D(0.3),
        kl.Permute((2, 1)),
        kl.LayerNormalization(axis=(1, 2), scale=False),
        kl.BatchNormalization(axis=1),
    ],
    (8, 8, 4): [
        kl.Conv2D(6, 3, strides=2, padding="same", groups=2, activation="mish"),
        kl.Conv2DTranspose(3, 3, strides=2, padding="same", output_padding=1),
        kl.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2),
        kl.SeparableConv2D(5, 3, depth_multiplier=2, activation="silu"),
        kl.BatchNormalization(scale=False, epsilon=0.01),
        kl.GroupNormalization(2),
        kl.UnitNormalization(),
        kl.Rescaling([0.1, 0.2, 0.3, 0.4], offset=1),
        kl.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1, 2, 3, 4]),
        kl.ReLU(3.0, 0.1, 0.2),
        kl.LeakyReLU(0.3),
        kl.PReLU("uniform", shared_axes=[1, 2]),
        kl.ELU(0.7),
        kl.Softmax(axis=[1, 2]),
        kl.MaxPooling2D(3, 2, "same"),
        kl.AveragePooling2D(3, 2, "same"),
        kl.GlobalMaxPooling2D(keepdims=True),
        kl.GlobalAveragePooling2D(),
        kl.Flatten(),
        kl.Reshape((-1, 2)),
        kl.ZeroPadding2D(((1, 2), (0, 3))),
        kl.Cropping2D(((1, 2), (0, 3))),
        kl.UpSampling2D(3, interpolation="bilinear"),
        kl.UpSampling2D((1, 2)),
        kl.SpatialDropout2D(0.2),
        kl.Identity(),
        kl.GaussianNoise(0.1),
        kl.GaussianDropout(0.1),
        kl.AlphaDropout(0.1),
        kl.Dropout(0.2, noise_shape=(None, 1, 1, 1)),
        kl.ActivityRegularization(0.1, 0.1),
        kl.Activation("softmax"),
        kl.Dense(3, activation="gelu"),
    ],
    (6, 6, 6, 2): [
        kl.Conv3D(3, 2),
        kl.Conv3DTranspose(3, 2, strides=2),
        kl.MaxPooling3D(2),
        kl.AveragePooling3D(2),
        kl.GlobalMaxPooling3D(),
        kl.GlobalAveragePooling3D(keepdims=True),
        kl.ZeroPadding3D(1),
        kl.Cropping3D(1),
        kl.UpSampling3D(2),
        kl.SpatialDropout3D(0.1),
    ],
    (6,): [kl.RepeatVector(3), kl.Embedding(5, 3)],
}
MERGES = [
    kl.Add(), kl.Average(), kl.Concatenate(1), kl.Dot(2, normalize=True), kl.Maximum(),
    kl.Minimum(), kl.Multiply(), kl.Subtract(),
]  # fmt: skip

# Of tensors x and y of shape (4, 4, 6): nodes with a layer for them in tf_keras, and without.
EQUAL_NODES = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "maximum": ops.maximum,
    "minimum": ops.minimum,
    "add number": lambda x, y: x + 2,
    "number minus": lambda x, y: 3 - x,
    "minus number": lambda x, y: x - 1.5,
    "number times": lambda x, y: -2 * x,
    "divide by number": lambda x, y: x / 3,
    "negative": lambda x, y: -x,
    "reshape": lambda x, y: ops.reshape(x, (-1, 16, 6)),
    "squeeze": lambda x, y: ops.squeeze(ops.mean(x, axis=[1, 2], keepdims=True), axis=1),
    "expand_dims": lambda x, y: ops.expand_dims(x, 1),
    "transpose": lambda x, y: ops.transpose(x, (0, 3, 1, 2)),
    "concatenate": lambda x, y: ops.concatenate([x, y], -1),
    "pad": lambda x, y: ops.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0))),
    "max": lambda x, y: ops.max(x, axis=(1, 2)),
    "softmax": lambda x, y: ops.softmax(x),
    "leaky_relu": lambda x, y: ops.leaky_relu(x, 0.3),
    "elu": lambda x, y: ops.elu(x, 0.5),
    "gelu": lambda x, y: ops.gelu(x),
    "exact gelu": lambda x, y: ops.gelu(x, approximate=False),
    "hard_silu": lambda x, y: ops.hard_silu(x),
    "relu6": lambda x, y: ops.relu6(x),
}
OTHER_NODES = {
    "get_item": lambda x, y: x[:, 1],
    "split": lambda x, y: ops.split(x, 2, axis=-1)[1],
    "across examples": lambda x, y: ops.reshape(x, (-1, 6)),
    "divide a number": lambda x, y: 2 / (x + 9.0),
    "mean of channels": lambda x, y: ops.mean(x, axis=-1),
    "exp": lambda x, y: ops.exp(x),
    "cast": lambda x, y: ops.cast(x, "int32"),
    "pad channels": lambda x, y: ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1))),
    "add array": lambda x, y: x + np.arange(6, dtype="float32"),
}

# Pixels a side, and whether the network rescales pixels itself.
NETWORKS = {
    "VGG16": (32, False), "MobileNet": (32, False), "MobileNetV2": (32, False),
    "MobileNetV3Small": (64, True), "MobileNetV3Large": (64, True), "ResNet50": (32, False),
    "ResNet50V2": (32, False), "DenseNet121": (32, False), "Xception": (71, False),
    "EfficientNetB0": (32, True), "EfficientNetV2B0": (32, True), "InceptionV3": (75, False),
    "NASNetMobile": (32, False), "ConvNeXtTiny": (32, True),
}  # fmt: skip


def network(name):
    """A network of keras.applications with random weights and statistics, and a batch for it.

    The statistics of a fresh BatchNormalization are those of no normalization: a twin that left
    them out would go unnoticed.
    """
    size, own_rescaling = NETWORKS[name]
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=7, classifier_activation=None
    )
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.path.rsplit("/")[-1] in ("moving_mean", "moving_variance", "gamma", "beta"):
            weight.assign(weight + rng.uniform(0, 0.5, weight.shape))
    pixels = rng.uniform(0, 255, (2, size, size, 3)).astype("float32")
    return model, pixels if own_rescaling else pixels / 127.5 - 1


def perturb(variables, seed=1):
    """Give every float variable other positive values."""
    rng = np.random.default_rng(seed)
    for variable in variables:
        if "float" in str(variable.dtype):
            variable.assign(rng.uniform(0.1, 1, tuple(variable.shape)).astype("float32"))


def one_model(layers, shape, num_inputs=1):
    """One model in which each of `layers` makes one output of the same inputs."""
    inputs = [keras.Input(shape) for _ in range(num_inputs)]
    given = inputs if num_inputs > 1 else inputs[0]
    model = keras.Model(given, [layer(given) for layer in layers])
    perturb(model.weights)
    return model
