"""Which operations of a `.tflite` file take the time: where an int8 file is slower than hoped.

A file is cut off after each operation and the pieces are timed in turn at one thread; what a piece
takes beyond the one before is its last operation's. The runtime joins some operations (a padding
and the convolution after it), so that one may read about zero and the next what both take.

`--without-amx` has Linux refuse the process Intel's matrix unit, which XNNPACK then does without:
its int8 kernels for AMX fill a convolution's input channels up to 64.

    python benchmarks/operation_times.py FILE.tflite [FILE.tflite ...] [--without-amx]
"""

import argparse
import ctypes
import os
import pathlib
import platform
import struct
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from kerastl.export.flatbuffer import cut_after, edges

ROUNDS = 200
LARGE = 0.02  # of the time of a file: operations below are summed up in one row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", help=".tflite files")
    parser.add_argument("--without-amx", action="store_true", help="Linux on x86-64 only")
    options = parser.parse_args()
    if options.without_amx:
        refuse_amx()
    contents = [pathlib.Path(file).read_bytes() for file in options.files]
    totals = median_ms([runner(content) for content in contents])
    for file, content, total in zip(options.files, contents, totals, strict=True):
        print(f"\n{file}: {total:.3f} ms, {total / totals[0]:.2f} of the first\n")
        print_operations(content)


def print_operations(content):
    operations = edges(content)
    pieces = [cut_after(content, count) for count in range(1, len(operations) + 1)]
    times = median_ms([runner(piece) for piece in pieces])
    print("| operation | gives | µs |\n| --- | --- | ---: |")
    small = 0.0
    befores = [0.0, *times[:-1]]
    for (name, _, gives), until, before in zip(operations, times, befores, strict=True):
        if abs(until - before) < LARGE * times[-1]:
            small += until - before
        else:
            print(f"| {name} | {gives[0]} | {1000 * (until - before):.0f} |")
    print(f"| all others | | {1000 * small:.0f} |")


def runner(content):
    """An interpreter of a file at one thread, with an input."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    for given in interpreter.get_input_details():
        values = rng.uniform(0, 127, given["shape"])
        interpreter.set_tensor(given["index"], values.astype(given["dtype"]))
    return interpreter


def median_ms(runners):
    """Median milliseconds of each, run in turn."""
    times = np.zeros((ROUNDS, len(runners)))
    for row in times:
        for k, interpreter in enumerate(runners):
            start = time.perf_counter()
            interpreter.invoke()
            row[k] = time.perf_counter() - start
    return 1000 * np.median(times, axis=0)


def refuse_amx():
    """Have the kernel answer requests for AMX's registers with "not permitted" from now on.

    A seccomp filter on `arch_prctl(ARCH_REQ_XCOMP_PERM)`; the rest of the process is as it was.

    Raises:
        OSError: If the system has no such filter.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise OSError(
            f"AMX can be refused on Linux on x86-64 only. Received: {platform.platform()}"
        )
    load, jump_if_equal, give = 0x20, 0x15, 0x06  # of BPF; offsets 0 and 16: call, first argument
    arch_prctl, request, allow, not_permitted = 158, 0x1023, 0x7FFF0000, 0x00050001
    lines = [
        (load, 0, 0, 0),
        (jump_if_equal, 0, 3, arch_prctl),
        (load, 0, 0, 16),
        (jump_if_equal, 0, 1, request),
        (give, 0, 0, not_permitted),
        (give, 0, 0, allow),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    program = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_seccomp, by_filter = 38, 22, 2
    for call in ((no_new_privileges, 1, 0), (set_seccomp, by_filter, program)):
        if libc.prctl(*call, 0, 0):
            raise OSError(ctypes.get_errno(), "The system refused a seccomp filter.")


if __name__ == "__main__":
    main()
