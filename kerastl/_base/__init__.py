"""Floor 0: argument checks, files that appear whole, silence, tables of text."""
