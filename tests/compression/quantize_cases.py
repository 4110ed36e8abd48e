"""Small networks for the tests of quantization, one for each way a graph is rewritten."""

import keras
import numpy as np
from keras import layers as kl
from keras import ops

SHAPE = (8, 8, 4)


def conv(filters=6, **kwargs):
    return kl.Conv2D(filters, 3, padding="same", **kwargs)


def _squeeze_and_excite(x):
    gate = kl.Dense(3, activation="relu")(kl.GlobalAveragePooling2D()(x))
    gate = kl.Reshape((1, 1, 6))(kl.Dense(6, activation="sigmoid")(gate))
    return kl.Multiply()([x, gate])


def _shared(x):
    layer, norm = conv(), kl.BatchNormalization()
    return kl.Add()([norm(layer(x)), norm(layer(kl.ReLU()(x)))])


def _shared_without_norm(x):
    layer = conv(6, name="shared")
    return kl.Add()([kl.BatchNormalization()(layer(x)), layer(kl.ReLU()(x))])


def _inception(x):
    """What the second max pool of InceptionV3 gives is read by convolutions and another pool."""
    x = kl.MaxPooling2D(2)(x)
    branches = [kl.ReLU()(kl.BatchNormalization()(kl.Conv2D(5, 1)(x))) for _ in range(3)]
    pooled = kl.AveragePooling2D(3, 1, padding="same")(x)
    return kl.Concatenate()([*branches, kl.Conv2D(5, 1)(pooled)])


def _everything(x):
    """A residual sum, a concatenation, pools, a lone normalization, gates and swishes."""
    y = kl.ReLU()(kl.BatchNormalization()(conv(use_bias=False)(x)))
    y = kl.Add()([y, kl.BatchNormalization()(kl.DepthwiseConv2D(3, padding="same")(y))])
    y = kl.Activation("relu6")(kl.BatchNormalization()(y))
    y = _squeeze_and_excite(kl.SeparableConv2D(6, 3, padding="same", activation="silu")(y))
    y = kl.Concatenate()(
        [y, kl.AveragePooling2D(2, 1, "same")(y), kl.MaxPooling2D(2, 1, "same")(y)]
    )
    return kl.Activation("hard_silu")(conv()(kl.Dropout(0.2)(y)))


# Each takes the output of a convolution with 6 channels.
CASES = {
    "norm": lambda x: kl.ReLU()(kl.BatchNormalization()(conv()(x))),
    "norm without scale": lambda x: kl.BatchNormalization(scale=False)(conv(use_bias=False)(x)),
    "norm without offset": lambda x: kl.BatchNormalization(center=False)(conv()(x)),
    "depthwise": lambda x: kl.BatchNormalization()(kl.DepthwiseConv2D(3, depth_multiplier=2)(x)),
    "transposed": lambda x: kl.BatchNormalization()(kl.Conv2DTranspose(5, 3, strides=2)(x)),
    "dense norm": lambda x: kl.BatchNormalization()(kl.Dense(5)(kl.Flatten()(x))),
    "dense on pictures": lambda x: kl.BatchNormalization()(kl.Dense(5)(x)),
    "dense swish on pictures": lambda x: kl.Dense(5, activation="silu")(x),
    "separable": lambda x: kl.ReLU()(kl.BatchNormalization()(kl.SeparableConv2D(7, 3)(x))),
    "lone norm": lambda x: conv()(kl.ReLU()(kl.BatchNormalization()(kl.Add()([x, conv()(x)])))),
    "lone norm without scale": lambda x: conv()(kl.ReLU()(kl.BatchNormalization(scale=False)(
        kl.MaxPooling2D(2)(x)))),
    "norm after a fork": lambda x: kl.Add()([x, kl.BatchNormalization()(x)]),
    "constants": lambda x: conv()(kl.Rescaling(3.0, -1.0)(
        kl.Normalization(mean=np.arange(6) / 9, variance=np.arange(1, 7))(kl.Rescaling(0.5)(x)))),
    "a pool with four readers": _inception,
    "sums of three": lambda x: kl.Add()([x, conv()(x), conv()(x)]),
    "average": lambda x: kl.Average()([x, conv()(x), conv()(x)]),
    "silu": lambda x: kl.Activation("silu")(x),
    "hard sigmoid": lambda x: kl.Activation("hard_sigmoid")(x),
    "operators": lambda x: kl.ReLU(6.0)(x + 3.0) * (1 / 6),
    "operations": lambda x: ops.silu(ops.relu(x)),
    "gate": _squeeze_and_excite,
    "shared": _shared,
    "shared without norm": _shared_without_norm,
    "everything": _everything,
}  # fmt: skip


def network(name, seed=0):
    """The network of a case: convolution, the case, mean, five scores; live statistics."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(SHAPE)
    x = CASES[name](conv(name="entry")(inputs))
    if len(x.shape) == 4:
        x = kl.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, kl.Dense(5, name="scores")(x), name="net")
    enliven(model)
    return model


def enliven(model, seed=0):
    """Biases, scales, offsets and statistics other than those of a fresh network."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        name = weight.path.rsplit("/")[-1]
        if name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        if name in ("beta", "bias", "moving_mean"):
            weight.assign(rng.normal(0, 0.3, weight.shape))


def pictures(count=64, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (count, *SHAPE)).astype("float32")


def small_mobilenet(alpha=0.25, size=64):
    model = keras.applications.MobileNet(
        weights=None, alpha=alpha, input_shape=(size, size, 3), classes=5, dropout=0.2
    )
    enliven(model)
    return model
