"""Float64 NumPy references, loops and all, each with its paper and equation."""

import numpy as np


def adamw(weight, gradients, rates, *, decay=0.0, beta_1=0.9, beta_2=0.999, epsilon=1e-7, born=0):
    """AdamW for one parameter group, from step `born` on; the weight rests before that.

    Kingma & Ba, 2015, algorithm 1 (https://arxiv.org/abs/1412.6980), in the form at the end of
    its section 2, which Keras uses: `epsilon` is added to the root of the *uncorrected* second
    moment. (torch adds it to the corrected one: its epsilon is `epsilon / sqrt(1 - beta_2**s)`.)
    Decay is decoupled: Loshchilov & Hutter, 2019, algorithm 2 (https://arxiv.org/abs/1711.05101),
    applied before the step as torch does, `w *= 1 - rate * decay`. The bias correction counts
    the weight's own steps `s`, the rate belongs to the global step.

    Args:
        weight: Array, the start value.
        gradients: One array per global step.
        rates: One rate per global step, the group's own.
        decay: Decoupled weight decay of the group.
        beta_1, beta_2, epsilon: As in Keras.
        born: Global step, counted from 0, of the first update.

    Returns:
        List of the weight after every global step.
    """
    weight = np.array(weight, "float64")
    m, v = np.zeros_like(weight), np.zeros_like(weight)
    trajectory = []
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True)):
        if step >= born:
            s = step - born + 1
            weight = weight - rate * decay * weight
            m = beta_1 * m + (1 - beta_1) * gradient
            v = beta_2 * v + (1 - beta_2) * gradient**2
            alpha = rate * np.sqrt(1 - beta_2**s) / (1 - beta_1**s)
            weight = weight - alpha * m / (np.sqrt(v) + epsilon)
        trajectory.append(weight)
    return trajectory
