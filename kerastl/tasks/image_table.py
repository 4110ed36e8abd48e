"""`ImageTable`: a table that says of each picture its class, its labels or a number."""

from kerastl._base.types import PathLike
from kerastl.data import scan_table
from kerastl.data.images.table import find_table
from kerastl.tasks.classification import Classification
from kerastl.tasks.multi_label import MultiLabel
from kerastl.tasks.pictures import Pictures
from kerastl.tasks.protocols import Objective
from kerastl.tasks.regression import Regression

OBJECTIVES = {"class": Classification(), "labels": MultiLabel(), "value": Regression()}


class ImageTable(Pictures):
    """A `.csv` or `.tsv` with the columns `file` and `label`, `labels` or `value`.

    Or a folder with a `labels.csv` or `labels.tsv` in it; see `data.scan_table`.
    """

    name = "image_table"

    @classmethod
    def scan(cls, path: PathLike, *, least: int = 2) -> "ImageTable | None":
        """The source at `path`, or None if there is no table."""
        table = find_table(path)
        return None if table is None else cls(scan_table(table, least=least))

    @property
    def objective(self) -> Objective:
        return OBJECTIVES[self.found.kind]
