# Of structures of anything; the checker infers None from the branch that raises.
from typing import Any

def __getattr__(name: str) -> Any: ...
