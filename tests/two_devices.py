"""Training on two logical devices beside training on one, in a process of its own.

Logical devices must be declared before TensorFlow starts.
"""

import subprocess
import sys
import textwrap

import numpy as np

BEFORE = """
import sys
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""

AFTER = """
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    two = train()
np.savez(sys.argv[1], *two, *train())
"""


def two_and_one(program, folder):
    """The arrays that `train()` of `program` returns on two devices, and those on one."""
    out = folder / "arrays.npz"
    whole = BEFORE + textwrap.dedent(program) + AFTER
    subprocess.run([sys.executable, "-c", whole, str(out)], check=True)
    with np.load(out) as saved:
        arrays = [saved[name] for name in saved.files]
    half = len(arrays) // 2
    return arrays[:half], arrays[half:]
