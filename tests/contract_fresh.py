"""`python -m tests.contract_fresh FOLDER`: load each `.keras` file in it and tell what came back.

One process for all, since a cold import of TensorFlow takes ten seconds. It knows the classes by
`import kerastl` alone, as a user's script does. It begins when it is given a line.
"""

import json
import pathlib
import pickle
import sys

import keras

import kerastl  # noqa: F401 (tells Keras of the classes)


def contents(model, inputs):
    """Plain data that says what a compiled model is: two with the same are the same.

    `weights` and not `variables`: Keras saves no state of random generators (3.15.1).
    """
    return {
        "config": json.loads(model.to_json()),  # what it was compiled with is in it
        "weights": [keras.ops.convert_to_numpy(v) for v in model.weights],
        "state": [keras.ops.convert_to_numpy(v) for v in model.optimizer.variables],
        "outputs": keras.ops.convert_to_numpy(model(inputs, training=False)),
    }


def _told(path, inputs, policy):
    keras.config.set_dtype_policy(policy)
    try:
        return contents(keras.models.load_model(path), inputs)
    except Exception as error:  # told to the test of this file; the others go on
        return repr(error)


def main(folder):
    sys.stdin.readline()  # until the files are there
    inputs, policies = pickle.loads((folder / "asked.pickle").read_bytes())
    files = sorted(folder.glob("*.keras"))
    told = {path.stem: _told(path, inputs, policies[path.stem]) for path in files}
    (folder / "told.pickle").write_bytes(pickle.dumps(told))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
