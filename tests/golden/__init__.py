"""Known-good results that tests compare with."""
