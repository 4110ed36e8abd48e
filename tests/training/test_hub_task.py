"""A KerasHub task reads its data through a preprocessor, which is no part of its graph."""

import keras
import keras_hub
import numpy as np
import pytest

from kerastl import FineTuner
from tests.tolerances import REDUCTION


@pytest.fixture(scope="module")
def task():
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[1],
        stackwise_num_strides=[1],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )
    convert = keras_hub.layers.ResNetImageConverter(image_size=(32, 32), scale=1 / 255, offset=-0.5)
    preprocessor = keras_hub.models.ResNetImageClassifierPreprocessor(image_converter=convert)
    return keras_hub.models.ResNetImageClassifier(
        backbone=backbone, num_classes=3, preprocessor=preprocessor, activation="softmax"
    )


def test_it_is_refused_by_name_and_doing_as_told_gives_the_same_answers(task):
    pictures = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3)).astype("float32")
    with pytest.raises(ValueError, match=r"ResNetImageClassifierPreprocessor.*preprocessor = None"):
        FineTuner.from_model(task)
    answers, preprocessor = task.predict(pictures, verbose=0), task.preprocessor
    task.preprocessor = None
    model = FineTuner.from_model(task)
    same = model.predict(preprocessor(pictures), verbose=0)
    np.testing.assert_allclose(same, answers, **REDUCTION)
    assert np.abs(model.predict(pictures, verbose=0) - answers).max() > 0.01
    task.preprocessor = preprocessor


def test_a_task_inside_another_model_is_called_without_it_by_keras_too(task):
    inputs = keras.Input((32, 32, 3))
    around = keras.Model(inputs, task(inputs))
    pictures = np.random.default_rng(0).random((4, 32, 32, 3)).astype("float32")
    ours, stock = FineTuner.from_model(around), around.predict(pictures, verbose=0)
    np.testing.assert_allclose(ours.predict(pictures, verbose=0), stock, **REDUCTION)
