# The checker infers `verbose: str` from its default "auto", where ints are documented, and None for
# what `compile` and `fit` set later.
from typing import Any

class Trainer:
    loss: Any
    optimizer: Any
    compiled: bool
    compiled_loss: Any
    stop_training: bool
    steps_per_execution: int
    train_function: Any
    test_function: Any
    predict_function: Any
    jit_compile: Any
    run_eagerly: bool
    distribute_strategy: Any
    _compile_loss: Any
    _compile_metrics: Any
    _initial_epoch: Any
    _loss_tracker: Any
    def __init__(self) -> None: ...
    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
    ) -> None: ...
    @property
    def metrics(self) -> list[Any]: ...
    @property
    def metrics_names(self) -> list[str]: ...
    def reset_metrics(self) -> None: ...
    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any: ...
    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any: ...
    def get_metrics_result(self) -> dict[str, Any]: ...
    def train_step(self, data: Any) -> Any: ...
    def test_step(self, data: Any) -> Any: ...
    def predict_step(self, data: Any) -> Any: ...
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
    def get_compile_config(self) -> Any: ...
    def compile_from_config(self, config: Any) -> None: ...
    def _symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> Any: ...
    def _aggregate_additional_loss(self, loss: Any) -> Any: ...
    def _get_own_metrics(self) -> list[Any]: ...

def model_supports_jit(model: Any) -> bool: ...
