"""One contract for every class that Keras may save or that a user lists in `compile` or `fit`.

Config round trip, `.keras` in a fresh process, a step of `fit`, and all of it under mixed
precision. The tables below are compared with what `kerastl` exports and tells Keras of: a new
public layer, loss, optimizer, schedule, callback or term that is in no table fails.
"""

import inspect
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest

import kerastl
from kerastl import FineTuner, LRMultiplier, callbacks, compression, peft, schedules, strategies
from kerastl.adaptation import MMD, Coral, DomainAdversarial, GradientReversal
from kerastl.backbones.packing import DocumentMask, DocumentPositions
from kerastl.compression.quantize.layers import (
    QuantizedConv2D,
    QuantizedConv2DTranspose,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
)
from kerastl.compression.quantize.ranges import FakeQuantize, KeepFloat
from kerastl.continual import (
    L2SP,
    ElasticWeightConsolidation,
    LearningWithoutForgetting,
    MemoryAwareSynapses,
    SynapticIntelligence,
)
from kerastl.data import RandomAffine
from kerastl.distillation import Distill, DistillAttention, DistillFeatures
from kerastl.schedules.schedule import ScheduledRate
from kerastl.training import Term
from tests.contract_fresh import contents
from tests.peft import peft_cases
from tests.tolerances import ELEMENTWISE

POLICIES = ("float32", "mixed_float16")
GROUPS = ["block_1", "head"]  # of `network`, by the generic rule

# Name of the class: how to make one, with no argument at its default where that can be.
LAYERS = {
    "FakeQuantize": lambda: FakeQuantize(decay=0.9),
    "GradientReversal": lambda: GradientReversal(0.5, num_steps=10, gamma=5.0),
    "KeepFloat": lambda: KeepFloat(name="kept"),
    "QuantizedConv2D": lambda: QuantizedConv2D(4, 3, strides=2, padding="same", activation="relu"),
    "QuantizedConv2DTranspose": lambda: QuantizedConv2DTranspose(3, 3, strides=2, use_bias=False),
    "QuantizedDense": lambda: QuantizedDense(5, activation="relu"),
    "QuantizedDepthwiseConv2D": lambda: QuantizedDepthwiseConv2D(3, depth_multiplier=2),
    "RandomAffine": lambda: RandomAffine(mirror=True, rotation=0.1, zoom=0.2, shift=0.3, seed=4),
}
# They read numbers of documents, not pictures: `fit` and a fresh process, in networks that read
# texts, are in tests/backbones/test_causal.py.
OF_DOCUMENTS = {
    "DocumentMask": lambda: DocumentMask(name="mask"),
    "DocumentPositions": lambda: DocumentPositions(name="positions"),
}
OPTIMIZERS = {
    "LRMultiplier": lambda: LRMultiplier(
        keras.optimizers.AdamW(1e-2), {"body": 0.5}, no_decay=["body/bias"]
    ),
}
SCHEDULES = {
    "Constant": lambda: schedules.Constant(),
    "Exponential": lambda: schedules.Exponential(1e-3, 1.0),
    "OneCycle": lambda: schedules.OneCycle(warmup=0.3, start_div=5.0, momentum=None),
    "SlantedTriangular": lambda: schedules.SlantedTriangular(cut_frac=0.2, ratio=16.0),
    "WarmupCosine": lambda: schedules.WarmupCosine(warmup=0.2, start=0.1, end=0.01),
    "WarmupLinear": lambda: schedules.WarmupLinear(warmup=0.2, start=0.1, end=0.01),
}
RATES = {"ScheduledRate": lambda: schedules.OneCycle(momentum=None).over(1e-2, 7)}
MODELS = {"FineTuner": lambda inputs, outputs: FineTuner(inputs, outputs, name="net")}
CALLBACKS = {
    "Audit": lambda folder: callbacks.Audit(steps=2),
    "EvaluateAverages": lambda folder: callbacks.EvaluateAverages(),
    "FollowPlan": lambda folder: callbacks.FollowPlan(
        strategies.full(GROUPS, epochs=2, learning_rate=1e-2), log=folder / "rates.csv"
    ),
    "GradualUnfreezing": lambda folder: callbacks.GradualUnfreezing({0: "head", 1: "block_1"}),
    "LRFinder": lambda folder: callbacks.LRFinder(num_steps=10),
    "MagnitudePruning": lambda folder: compression.MagnitudePruning(0.5),
    "Resume": lambda folder: callbacks.Resume(folder / "checkpoints"),
}
LOSSES = {}  # kerastl has none of its own: what a loss adds is a term
# No `.keras` file holds a term: the model loads without, and they are given to `compile` again.
TERMS = {
    "Coral": lambda: Coral(IMAGES[:4]),
    "Distill": lambda: Distill(network(), temperature=2.0),
    "DistillAttention": lambda: DistillAttention(network(), {"body": "body"}),
    "DistillFeatures": lambda: DistillFeatures(network(), {"body": "body"}),
    "DomainAdversarial": lambda: DomainAdversarial(IMAGES[:4], condition="probabilities"),
    "ElasticWeightConsolidation": lambda: ElasticWeightConsolidation(2.0, labels="true"),
    "L2SP": lambda: L2SP(strength=0.1),
    "LearningWithoutForgetting": lambda: LearningWithoutForgetting(network(), temperature=3.0),
    "MMD": lambda: MMD(IMAGES[:4]),
    "MemoryAwareSynapses": lambda: MemoryAwareSynapses(2.0),
    "SynapticIntelligence": lambda: SynapticIntelligence(2.0, xi=0.01),
}
NEED_A_TASK = ("ElasticWeightConsolidation", "MemoryAwareSynapses")  # before they are trained with

# What Keras is told of, but no user meets and no `.keras` file of Keras 3 holds.
NOT_SAVED = {
    "Slot": "marks a tensor in the config of a twin, which is a tf_keras model",
    "Adapter": "abstract; adapters are saved with their model (tests/peft/test_methods.py)",
    "AdapterBank": "saved with the FineTuner that owns it (tests/peft/test_methods.py)",
}
# Plain data; every one goes through tests/peft/test_methods.py with a model around it.
METHODS = {type(method).__name__: method for method, *_ in peft_cases.METHODS.values()}

KINDS = {
    keras.layers.Layer: {**LAYERS, **OF_DOCUMENTS, **MODELS},  # a model is a layer
    keras.optimizers.Optimizer: OPTIMIZERS,
    keras.optimizers.schedules.LearningRateSchedule: RATES,
    schedules.Schedule: SCHEDULES,
    keras.callbacks.Callback: CALLBACKS,
    Term: TERMS,
    keras.losses.Loss: LOSSES,
    keras.metrics.Metric: {},
    keras.constraints.Constraint: {},
    keras.regularizers.Regularizer: {},
    keras.initializers.Initializer: {},
    peft.Method: METHODS,
}


def public_classes(module=kerastl):
    """The classes that `kerastl` exports, from its public modules at any depth."""
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value):
            yield value
        elif inspect.ismodule(value):
            yield from public_classes(value)


def registered():
    """Dict from name to class of what Keras is told of as kerastl's."""
    found = keras.saving.get_custom_objects().items()
    return {name.split(">")[1]: cls for name, cls in found if name.startswith("kerastl>")}


def test_every_public_class_is_in_a_table():
    missing, known = [], set(NOT_SAVED)
    for table in KINDS.values():
        known |= set(table)
    for cls in {*public_classes(), *registered().values()}:
        kinds = [base for base in KINDS if issubclass(cls, base)]
        if cls in KINDS or cls.__name__ in NOT_SAVED:
            continue
        tables = [KINDS[base] for base in kinds]
        if any(cls.__name__ not in table for table in tables):
            missing.append(cls.__name__)
    assert missing == []
    unknown = set(registered()) - known
    assert unknown == set(), "Keras is told of classes that are in no table"


def test_no_table_names_what_is_gone():
    there = {cls.__name__ for cls in {*public_classes(), *registered().values()}}
    declared = {name for table in (*KINDS.values(), NOT_SAVED) for name in table}
    assert declared <= there


# --- config -------------------------------------------------------------------------------------

CONFIGURED = {**LAYERS, **OF_DOCUMENTS, **OPTIMIZERS, **RATES}


@pytest.mark.parametrize("name", CONFIGURED)
def test_config_round_trip(name):
    one = CONFIGURED[name]()
    again = type(one).from_config(one.get_config())
    assert again is not one and again.get_config() == one.get_config()
    if "__init__" in vars(type(one)):  # each of its arguments comes back, under its own name
        own = inspect.signature(type(one)).parameters.values()
        named = {p.name for p in own if p.kind is not p.VAR_KEYWORD}
        assert named - {"groups"} <= set(one.get_config())  # groups are resolved to variables


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_plain_data(name):
    one = SCHEDULES[name]()
    assert schedules.from_config(one.to_config()) == one
    assert ScheduledRate.from_config(one.over(0.1, 9).get_config()).schedule == one


# --- fit, `.keras`, mixed precision -------------------------------------------------------------

IMAGES = np.random.default_rng(0).uniform(0, 1, (8, 6, 6, 3)).astype("float32")
LABELS = np.arange(8) % 2


def network(layer=None, model=keras.Model):
    """A model of two groups, `body` and `head`, with `layer` before them."""
    x = inputs = keras.Input((6, 6, 3))
    if layer is not None:
        x = layer(x)
    x = keras.layers.Conv2D(4, 3, padding="same", name="body")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dense(2, activation="softmax", dtype="float32", name="head")(x)
    return model(inputs, x, name="net") if model is keras.Model else model(inputs, x)


def keeps_its_loss_scale(name):
    """Whether the case is a FineTuner; another model has one by the policy it is loaded under."""
    return name in {**MODELS, **TERMS}


def compiled(name):
    """The model of one case, compiled."""
    optimizer = keras.optimizers.AdamW(1e-2)
    if name in OPTIMIZERS:
        optimizer = OPTIMIZERS[name]()
    if name in RATES:
        optimizer = keras.optimizers.AdamW(RATES[name]())
    layer = LAYERS[name]() if name in LAYERS else None
    model = network(layer, MODELS["FineTuner"] if keeps_its_loss_scale(name) else keras.Model)
    terms = [TERMS[name]()] if name in TERMS else []
    if name in NEED_A_TASK:
        terms[0].consolidate(model, IMAGES)
    given = {"terms": terms} if terms else {}
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False, **given)
    return model


def trained(name, policy):
    """The model of one case after a step of `fit` under `policy`."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        model = compiled(name)
        losses = model.fit(IMAGES, LABELS, batch_size=8, epochs=1, verbose=0).history["loss"]
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(losses).all()
    return model


SAVED = [*LAYERS, *OPTIMIZERS, *RATES, *MODELS, *TERMS]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Dict from case to what it was before it was saved and what one fresh process loaded."""
    folder = tmp_path_factory.mktemp("contract")
    command = [sys.executable, "-m", "tests.contract_fresh", str(folder)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(command, text=True, **pipes)  # imports while the models train here
    before = {}
    for name in SAVED:
        for policy in POLICIES:
            try:
                model = trained(name, policy)
                model.save(folder / f"{name}-{policy}.keras")
                before[name, policy] = contents(model, IMAGES)
            except Exception as error:  # told by the test of this case; the others go on
                before[name, policy] = error
    under = {
        "-".join(case): "float32" if keeps_its_loss_scale(case[0]) else case[1] for case in before
    }
    (folder / "asked.pickle").write_bytes(pickle.dumps((IMAGES, under)))
    _, said = process.communicate("go\n")
    assert process.returncode == 0, said
    loaded = pickle.loads((folder / "told.pickle").read_bytes())
    return {case: (was, loaded.get("-".join(case))) for case, was in before.items()}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", SAVED)
def test_it_learns_and_a_fresh_process_loads_it(name, policy, fresh):
    was, loaded = fresh[name, policy]
    if isinstance(was, Exception):
        raise was
    assert isinstance(loaded, dict), loaded
    assert loaded["config"] == was["config"]
    for kind in ("weights", "state"):
        for got, want in zip(loaded[kind], was[kind], strict=True):
            np.testing.assert_array_equal(got, want)
    np.testing.assert_allclose(loaded["outputs"], was["outputs"], **ELEMENTWISE)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_goes_through_fit(name, policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        model = network(model=MODELS["FineTuner"])
        model.compile(keras.optimizers.AdamW(1e-2, use_ema=True), "sparse_categorical_crossentropy")
        weights = model.trainable_variables
        before = [v.numpy() for v in weights]
        steps = {"batch_size": 1, "epochs": 2, "validation_data": (IMAGES, LABELS)}
        history = model.fit(
            IMAGES, LABELS, callbacks=[CALLBACKS[name](tmp_path)], verbose=0, **steps
        )
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(history.history["loss"]).all()
    moved = any(np.any(was != v.numpy()) for was, v in zip(before, weights, strict=True))
    assert moved != (name == "LRFinder")  # which puts everything back
