# The checker infers for `Input` what `Node` says of the outputs of any operation.
from typing import Any

from keras import KerasTensor
from keras.src.layers.layer import Layer

class InputLayer(Layer):
    batch_shape: Any
    dtype: Any
    sparse: bool
    ragged: bool
    optional: bool
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

def Input(*args: Any, **kwargs: Any) -> KerasTensor: ...
