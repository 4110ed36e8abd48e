# The checker infers `verbose: str` from its default "auto", where ints are documented, and None for
# the functions that `compile` resets and `fit` makes.
from typing import Any

from keras.src.trainers import trainer as base_trainer
from keras.src.trainers.epoch_iterator import EpochIterator

class TensorFlowTrainer(base_trainer.Trainer):
    train_function: Any
    test_function: Any
    predict_function: Any
    def __init__(self) -> None: ...
    @property
    def distribute_strategy(self) -> Any: ...
    distribute_reduction_method: Any
    def train_step(self, data: Any) -> Any: ...
    def test_step(self, data: Any) -> Any: ...
    def predict_step(self, data: Any) -> Any: ...
    def _autoconvert_optionals(self, step_func: Any) -> Any: ...
    def _make_function(self, step_function: Any) -> Any: ...
    def make_train_function(self, force: bool = False) -> Any: ...
    def make_test_function(self, force: bool = False) -> Any: ...
    def make_predict_function(self, force: bool = False) -> Any: ...
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
    ) -> Any: ...
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any: ...
    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any: ...
    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        return_dict: bool = False,
    ) -> Any: ...
    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any: ...
    def predict_on_batch(self, x: Any) -> Any: ...
    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> Any: ...
    def _aggregate_additional_loss(self, loss: Any) -> Any: ...

class TFEpochIterator(EpochIterator):
    def __init__(self, distribute_strategy: Any = None, *args: Any, **kwargs: Any) -> None: ...
    def catch_stop_iteration(self) -> Any: ...

def reduce_per_replica(values: Any, strategy: Any, reduction: str) -> Any: ...
def __getattr__(name: str) -> Any: ...
