"""The twin of a Keras 3 model: the same graph as a tf_keras model, for tools that want one."""

from kerastl.compression.twin.twin import Twin, twin

__all__ = ["Twin", "twin"]
