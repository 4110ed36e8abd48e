"""Named tolerances of the test suite, each with its reason."""

# Same operations in the same order: not one bit may differ.
EXACT = {"rtol": 0.0, "atol": 0.0}

# The same float32 arithmetic element by element, perhaps fused or reordered once.
ELEMENTWISE = {"rtol": 1e-6, "atol": 1e-7}

# Sums over many elements: float32 addition is not associative.
REDUCTION = {"rtol": 1e-5, "atol": 1e-6}
