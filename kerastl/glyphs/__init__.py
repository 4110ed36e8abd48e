"""The embedded default: a backbone pretrained on rendered glyphs, and digits to move it to."""

from kerastl.glyphs.digits import digits
from kerastl.glyphs.fonts import class_names
from kerastl.glyphs.network import glyphnet
from kerastl.glyphs.pretrained import load_glyphnet
from kerastl.glyphs.rendering import render_glyphs

__all__ = ["class_names", "digits", "glyphnet", "load_glyphnet", "render_glyphs"]
