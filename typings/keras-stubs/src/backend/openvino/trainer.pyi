# `keras.Model` is of one of five backends; the checker takes the last. It is TensorFlow's here.
from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

class OpenVINOTrainer(TensorFlowTrainer): ...
