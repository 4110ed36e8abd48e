"""What parameter-efficient methods are made of: a `Method` and, for each layer, an `Adapter`."""

import abc
import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import keras

from kerastl import _keras
from kerastl._base import checks
from kerastl.graph import LayerGroups

_IN_BLOCKS = re.compile(r".*_\d+")  # `layer_3`, `block_2`, `stage_4`: neither stem nor head


@dataclasses.dataclass(frozen=True)
class Method(abc.ABC):
    """A parameter-efficient method with its settings. Plain data: equal when equal.

    `kerastl.peft.add` makes an `Adapter` of it for each layer that it is to act on.
    """

    kinds: ClassVar[tuple[type, ...]] = ()  # of layers that it acts on
    acts_on_int8: ClassVar[bool] = False  # does not read the kernel, which may be int8 then

    @abc.abstractmethod
    def adapter(self, layer: keras.Layer, path: str) -> "Adapter":
        """The `Adapter` of one layer.

        Args:
            layer: Built layer, one of `kinds`.
            path: String, where it is in its model, such as
                `"transformer_layer_3/self_attention_layer/query"`.

        Raises:
            ValueError: If the method has no meaning for this layer, with the reason.
        """

    def adapters(self, places: Sequence[tuple[keras.Layer, str]], *, name: str) -> list["Adapter"]:
        """An `Adapter` for each of `places`, in this order.

        Each is made by itself here; a method whose adapters share something makes them together.

        Args:
            places: Pairs of a layer and its path, all those that one `add` acts on.
            name: String, the name under which the user adds them.
        """
        make: Any = self.adapter
        made = []
        for layer, path in places:
            with scopes_of(path):
                made.append(make(layer, path, name=name))
        return made

    def fits(self, layer: keras.Layer) -> bool:
        """Whether the method acts on layers such as `layer`."""
        return type(layer) in self.kinds or isinstance(layer, self.kinds)

    @property
    def acts_on(self) -> str:
        """What `fits`, in words."""
        return checks.listed((kind.__name__ for kind in self.kinds), 20)

    def check(self, places: Sequence[tuple[keras.Layer, str]]) -> None:  # noqa: B027
        """Raise if the settings have no meaning for the layers that `add` would act on.

        Args:
            places: Pairs of a layer and its path.

        Raises:
            ValueError: With what would have.
        """

    def among(self, model: Any, chosen: Sequence[keras.Layer]) -> list[keras.Layer]:
        """What the method acts on where the user chose layers: those of them that it fits.

        Args:
            model: `FineTuner`.
            chosen: Leaf layers of it, in their order.
        """
        return [layer for layer in chosen if self.fits(layer)]

    def targets(self, model: Any, groups: LayerGroups) -> list[keras.Layer]:
        """The layers that the method acts on where the user names none: all that fit in blocks.

        Args:
            model: `FineTuner`.
            groups: Its `LayerGroups`.
        """
        blocks = [name for name in groups if _IN_BLOCKS.fullmatch(name)]
        return [layer for name in blocks for layer in groups[name] if self.fits(layer)]

    def get_config(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Method":
        return cls(**config)


@contextlib.contextmanager
def scopes_of(path: str) -> Iterator[None]:
    """Have variables that are made meanwhile be called after the adapter of the layer at `path`."""
    with contextlib.ExitStack() as scopes:
        for part in ("adapters", *path.split("/")):
            scopes.enter_context(keras.name_scope(part))
        yield


@dataclasses.dataclass(frozen=True, eq=False)
class Beside:
    """What an adapter goes with, where neither Keras's trackers nor its files look for layers.

    Attributes:
        layer: Layer of the graph, or inside one.
        method: `Method`.
    """

    layer: Any
    method: Any


class Adapter(keras.Layer):
    """What one method adds to one layer: its own float32 weights, and how the layer uses them.

    It is not in the graph. While it is active, the layer's `call` runs `around`. Its weights are
    float32 whatever those of the layer are; it computes as the layer does.

    Args:
        layer: Layer that it goes with.
        method: `Method`.
        name: String, the name under which the user added it.

    Attributes:
        beside: `Beside`, with the layer and the method.
    """

    is_additive: ClassVar[bool] = True  # several can act on one layer at once
    adds_up: ClassVar[bool] = False  # a weighted sum of its weights does the weighted sum

    def __init__(self, layer: keras.Layer, method: Method, *, name: str) -> None:
        compute = layer.compute_dtype
        half = compute in ("float16", "bfloat16")
        super().__init__(name=name, dtype=f"mixed_{compute}" if half else compute)
        self.beside = Beside(layer, method)
        self.built = True  # else Keras runs the whole model to build it

    def hooks(self) -> list[tuple[keras.Layer, str, Callable[..., Any]]]:
        """What is put around what: `(layer, name of its method, function)`."""
        return [(self.beside.layer, "call", self.around)]

    @abc.abstractmethod
    def around(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What the layer gives with the adapter; `call` is what it gives without."""

    def merged(self) -> list[tuple[keras.Variable, Any]]:
        """Pairs of a variable of the layer and the value with which it does without the adapter.

        Raises:
            ValueError: If no weights of the layer can do what the adapter does.
        """
        raise ValueError(
            f"{type(self.beside.method).__name__} cannot be merged: no weights of "
            f"{self.beside.layer.name!r} do what it does. Save it with the model, or as a file of "
            "its own."
        )

    @property
    def is_training(self) -> bool:
        """Whether a `FineTuner` trains it just now, so that its dropout acts."""
        return _keras.are_adapters_training() and any(v.trainable for v in self.variables)

    def whole(self, variable: Any) -> Any:
        """`variable` as a float32 tensor, also inside a call that reads variables as halves."""
        return _keras.value_in_float32(variable)

    def cast(self, value: Any, like: Any) -> Any:
        """`value`, a variable or tensor, in the type of the tensor `like`."""
        return keras.ops.cast(keras.ops.convert_to_tensor(value), like.dtype)


def added_before_activation(
    layer: keras.Layer, call: Callable[..., Any], added: Any, *args: Any, **kwargs: Any
) -> Any:
    """What `call` gives, and `added(outputs)` put to it before the activation of `layer`."""

    def changed(outputs):
        return outputs + added(outputs)

    return changed_before_activation(layer, call, changed, *args, **kwargs)


def changed_before_activation(
    layer: keras.Layer, call: Callable[..., Any], changed: Any, *args: Any, **kwargs: Any
) -> Any:
    """`changed(outputs)` of what `call` gives, before the activation of `layer`."""
    if not hasattr(layer, "activation"):
        outputs = call(*args, **kwargs)
        return masked_as(outputs, changed(outputs))
    with _keras.without_activation(layer) as activation:
        outputs = call(*args, **kwargs)
    return masked_as(outputs, activation(changed(outputs)))


def masked_as(outputs: Any, others: Any) -> Any:
    """`others` with the Keras mask of `outputs`, which some layers set in their `call`."""
    mask = _keras.get_keras_mask(outputs)
    if mask is not None:
        _keras.set_keras_mask(others, mask)
    return others


@contextlib.contextmanager
def with_values(values: Sequence[tuple[keras.Variable, Any]]) -> Iterator[None]:
    """Have layers that are called meanwhile read tensors in the place of some variables.

    Gradients flow to the tensors. Nothing can be assigned meanwhile. What a scope around this one
    says of other variables holds in it, too.

    Args:
        values: Pairs of a variable and a tensor of its shape.
    """
    with _InnerScope(state_mapping=list(values)):
        yield


class _InnerScope(keras.StatelessScope):
    """A scope in which variables that it does not name are what the scope around it says.

    Keras 3.15.1 asks the innermost alone, and adapters on one layer are scopes within one another.
    """

    def get_current_value(self, variable: keras.Variable) -> Any:
        value = super().get_current_value(variable)
        if value is None and self.original_scope is not None:
            return self.original_scope.get_current_value(variable)
        return value


def refuse_quantized(layer: keras.Layer, path: str, who: str) -> None:
    """Raise if the kernel of `layer` is of integers, where `who` needs the numbers themselves.

    Raises:
        ValueError: With the mode.
    """
    mode = getattr(layer, "quantization_mode", None)
    if mode is not None:
        raise ValueError(
            f"{who} computes with the kernel, and that of {path!r} is quantized ({mode}). Load "
            "the base unquantized, or take `LoRA`, which stands beside it."
        )


def pattern_value(path: str, patterns: dict[str, Any], otherwise: Any) -> Any:
    """The value of the last of `patterns`, regexes of whole paths, that matches `path`."""
    found = [value for pattern, value in patterns.items() if re.fullmatch(pattern, path)]
    return found[-1] if found else otherwise
