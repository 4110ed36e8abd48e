"""L2-SP: a penalty on the distance from the pretrained weights, in the place of weight decay."""

import weakref
from typing import Any

import keras

from kerastl._base import checks
from kerastl.continual.quadratic import Pull, QuadraticPenalty, variable_like
from kerastl.graph import select_layers
from kerastl.training import FineTuner


class L2SP(QuadraticPenalty):
    """Draws pretrained weights back to where they started, and new ones to zero.

    Weight decay pulls pretrained weights towards zero, away from what they know. This term pulls
    them towards their starting point instead, so use no weight decay beside it:

    `strength / 2 * ||w - anchors||² + strength_new / 2 * ||w_new||²`

    Both are sums over all weights that train at the moment, whatever the size of the batch. After
    each step of the optimizer, at the layer's own rate `lr`, a weight goes to `(w + lr * strength *
    anchor) / (1 + lr * strength)`: stable for any strength, and `loss` in `history` is without the
    penalty, which has its own metric. With `proximal=False` the penalty is in the loss, and an
    optimizer such as Adam rescales its gradient.

    Args:
        strength: Float >= 0, alpha of the paper, which takes 0.1.
        strength_new: Float >= 0, beta of the paper, which takes 0.01. With both at 0 the term is
            off and the training is the one without it.
        anchors: `keras.Model` that shares layers with the model to train, such as its backbone:
            what its weights are now are the anchors, and all weights that it does not hold are
            new. None takes the weights as they are when the first `fit` after `compile` begins,
            or, if nobody has said by then that they will train, when they thaw.
        proximal: Boolean, whether the penalty acts by a step after that of the optimizer. False
            takes its gradient, which diverges under SGD where `lr * strength` exceeds 2.
        where_new: What layers of the model to train are new, as in `freeze`; None is its last
            group, the head. Only for `anchors=None`.
        name: String, the name of the metric.

    Raises:
        ValueError: If a strength is no number >= 0, or `where_new` is given beside `anchors`; in
            `fit`, if the model shares no weight with `anchors`, or the gradient form would
            diverge, or the proximal one meets a weight with a constraint or
            `ema_overwrite_frequency`.

    Example:
        >>> import numpy as np
        >>> inputs = keras.Input((2,))
        >>> body = keras.layers.Dense(2, name="body")(inputs)
        >>> model = FineTuner(inputs, keras.layers.Dense(1, name="head")(body))
        >>> model.compile("sgd", "mse", terms=[L2SP(strength=0.1, strength_new=0.01)])
        >>> history = model.fit(np.ones((4, 2)), np.ones(4), batch_size=4, epochs=2, verbose=0)
        >>> len(history.history["l2_sp"])
        2

    References:
        Li et al., 2018, equation 2, https://arxiv.org/abs/1802.01483
    """

    def __init__(
        self,
        strength: float = 0.1,
        strength_new: float = 0.01,
        *,
        anchors: keras.Model | None = None,
        where_new: Any = None,
        proximal: bool = True,
        name: str = "l2_sp",
    ) -> None:
        checks.in_range(strength, 0.0, float("inf"), "strength")
        checks.in_range(strength_new, 0.0, float("inf"), "strength_new")
        if anchors is not None and where_new is not None:
            raise ValueError(
                "Weights are new where `anchors` does not hold them. Received: anchors and "
                f"where_new={where_new!r}. Leave one of them out."
            )
        self.strength, self.strength_new = strength, strength_new
        self.name, self.proximal = name, bool(proximal)
        self._given = None
        if anchors is not None:
            # The variables are held, so that their ids stay theirs.
            self._given = {id(w): (w, keras.ops.convert_to_numpy(w)) for w in anchors.weights}
        self._where_new = where_new
        self._model = lambda: None
        self._pulls = []

    @property
    def is_off(self) -> bool:
        return self.strength == 0 and self.strength_new == 0

    @property
    def state_variables(self) -> list:
        """The anchors, in the order of the optimizer's slots."""
        return [pull.anchor for pull in self._pulls if pull.anchor is not None]

    def begin(self, model: FineTuner) -> None:
        """Forget the anchors of a training before this `compile`."""
        self._model, self._pulls = lambda: None, []

    def prepare(self, model: FineTuner) -> None:
        """Make an anchor of each pretrained weight that has come to have a slot."""
        if self._model() is not model:
            self._begin(model)
        known = {id(pull.weight) for pull in self._pulls}
        for weight in model.lr_multiplier.slot_variables:
            if id(weight) not in known:
                self._pulls.append(self._pull(weight))
        self._check_form(model)

    def _begin(self, model):
        self._model, self._pulls = weakref.ref(model), []
        if self._given is not None:
            if not any(id(weight) in self._given for weight in model.weights):
                raise ValueError(
                    "`anchors` must share layers with the model to train, as a backbone does. "
                    f"Received: a model none of whose weights are in {model.name!r}. Build that "
                    "on its layers, or leave `anchors` out."
                )
            self._new = {id(w) for w in model.weights if id(w) not in self._given}
            return
        where = self._where_new
        layers = model.groups[-1] if where is None else select_layers(model, where)
        self._new = {id(weight) for layer in layers for weight in layer.weights}

    def _pull(self, weight):
        if id(weight) in self._new:
            return Pull(weight, self.strength_new)
        start = keras.ops.convert_to_numpy(weight)
        if self._given is not None:
            start = self._given[id(weight)][1]
        return Pull(weight, self.strength, variable_like(weight, start, "anchor"))
