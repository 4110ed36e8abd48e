"""A `.tflite` file read and written as objects: the one place that uses its schema.

`tensorflow.lite.python.schema_py_generated` is generated from the public schema of the format, but
its module is not public API (seen in TensorFlow 2.21). It can go when ai_edge_litert
offers a reader.
"""

import collections

IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every file


def is_litert(content):
    """Whether these bytes start as a LiteRT file does."""
    return bytes(content[4:8]) == IDENTIFIER


def operations(content):
    """Dict from operation to how often it occurs, the most frequent first.

    Built-in operations have their schema's name (`CONV_2D`); an operation that the plain
    runtime lacks is `CUSTOM:` and its own name, such as `CUSTOM:FlexErfinv`.
    """
    schema = _schema()
    builtin = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    model = _parse(schema, content)
    counts = collections.Counter()
    for graph in model.subgraphs:
        for operation in graph.operators:
            code = model.operatorCodes[operation.opcodeIndex]
            # Old files keep the number in a byte-wide field, new ones in a wider one.
            number = max(code.builtinCode, code.deprecatedBuiltinCode)
            name = builtin[number]
            counts[f"CUSTOM:{code.customCode.decode()}" if name == "CUSTOM" else name] += 1
    return dict(counts.most_common())


def renamed(content, *, inputs, outputs):
    """The same file with other names for the inputs and outputs of its one signature.

    Args:
        content: Bytes of a file.
        inputs: Dict from the signature's input names to new ones; others stay.
        outputs: The same for outputs.

    Returns:
        Bytes of a file that differs in names alone.
    """
    import flatbuffers

    schema = _schema()
    model = _parse(schema, content)
    tensors = model.subgraphs[0].tensors
    signature = model.signatureDefs[0]
    for entries, names in ((signature.inputs, inputs), (signature.outputs, outputs)):
        for entry in entries:
            old = entry.name.decode()
            entry.name = tensors[entry.tensorIndex].name = names.get(old, old).encode()
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _schema():
    from tensorflow.lite.python import schema_py_generated

    return schema_py_generated


def _parse(schema, content):
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
