"""The main job offline: from rendered glyphs to handwritten digits, ten labels a class."""

from kerastl.demo.run import DemoResult, run_demo

__all__ = ["DemoResult", "run_demo"]
