"""The embedded default: a backbone pretrained on rendered glyphs, and digits to move it to."""

from kerastl.backbones.glyphs.digits import digits, held_out_digits
from kerastl.backbones.glyphs.fonts import class_names
from kerastl.backbones.glyphs.network import glyphnet, load_glyphnet
from kerastl.backbones.glyphs.rendering import render_glyphs

__all__ = ["class_names", "digits", "glyphnet", "held_out_digits", "load_glyphnet", "render_glyphs"]
