"""What went wrong, out of the long text of a framework's error."""

import re

_MOST = 500  # characters

_CALLING = re.compile(r"Exception encountered when calling ([\w.]+)\(\)\.?\s*(.*)", re.DOTALL)
_LOADING = "Exception encountered: "
_OF_PYTHON = re.compile(r"^\s*(?:[\w.]+\.)?(\w*(?:Error|Exception|Interrupt)): ", re.MULTILINE)
_OF_COMPILER = re.compile(r"error: (?!loc\()(.*)|error: loc\(.*\): (.*)")


def cause(error: BaseException) -> str:
    """The cause that `error` tells of, as one sentence on one line.

    Keras, TensorFlow, its converter and tf_keras begin their texts with where they were.

    Example:
        >>> cause(TypeError("in user code:\\n\\n  File 'a.py'\\n\\n  ValueError: Too wide.\\n"))
        'Too wide.'
        >>> cause(ValueError("Exception encountered when calling Cut.call().\\n\\nToo wide.\\n\\n"
        ...                  "Arguments received by Cut.call():\\n  • x"))
        'Too wide. (in Cut.call)'
    """
    text = re.sub(r"\x1b\[[\d;]*m", "", str(error)).strip()
    found = _cause(text) or type(error).__name__
    found = found if len(found) <= _MOST else f"{found[:_MOST]}..."
    return found if found.endswith((".", ")", "!", "?")) else f"{found}."


def _cause(text):
    if text.startswith("in user code:"):
        raised = list(_OF_PYTHON.finditer(text))
        if raised:
            return _cause(text[raised[0].end() :].strip())
    calling = _CALLING.search(text)
    if calling:
        inner = _cause(calling[2].split("Arguments received by")[0].strip())
        return f"{_ended(inner)} (in {calling[1]})" if "(in " not in inner else inner
    if _LOADING in text:
        return _cause(text.rpartition(_LOADING)[2].split(". Object", 1)[0])
    compiled = _OF_COMPILER.search(text)
    if compiled:
        return _cause(compiled[1] or compiled[2])
    lines = [line.strip() for line in text.split("\n\n")[0].splitlines()]
    return " ".join(line for line in lines if line)


def _ended(sentence):
    return sentence if sentence.endswith((".", ")", "!", "?")) else f"{sentence}."
