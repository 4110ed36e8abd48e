"""What a long job tells of itself; the command line shows it, a program may ignore it."""


class Silent:
    """Progress that shows nothing; a class with these methods can show anything."""

    def stage(self, name, total=None):
        """A stage of the run begins, of `total` pieces if that is known."""

    def count(self, done, total):
        """`done` of `total` pieces of the stage are done."""

    def callbacks(self):
        """Keras callbacks that show steps and epochs."""
        return []
