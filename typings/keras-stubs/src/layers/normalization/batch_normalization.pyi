# Keras's __init__ says None of the weights, which `build` makes.
from typing import Any

from keras.src.layers.layer import Layer

class BatchNormalization(Layer):
    axis: Any
    momentum: float
    epsilon: float
    center: bool
    scale: bool
    gamma: Any
    beta: Any
    moving_mean: Any
    moving_variance: Any
    def __init__(
        self,
        axis: Any = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        **kwargs: Any,
    ) -> None: ...
