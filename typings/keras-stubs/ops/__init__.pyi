# Keras's operations are written once for four backends, so that the checker infers for each a
# union with what the others return, None among it. What they return here is a tensor.
from typing import Any

def __getattr__(name: str) -> Any: ...
