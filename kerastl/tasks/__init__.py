"""Source × Objective: where examples come from, and what is learnt of them."""

from kerastl.tasks.classification import Classification
from kerastl.tasks.image_folder import ImageFolder
from kerastl.tasks.image_table import ImageTable
from kerastl.tasks.line_examples import LineExamples
from kerastl.tasks.multi_label import MultiLabel
from kerastl.tasks.next_token import NextToken
from kerastl.tasks.paired import Paired, paired, pooled
from kerastl.tasks.picture_examples import PictureExamples
from kerastl.tasks.pictures import PreparePictures
from kerastl.tasks.prepare_lines import PrepareLines
from kerastl.tasks.prepare_texts import PrepareTexts
from kerastl.tasks.protocols import (
    Examples,
    Finer,
    HeldOut,
    Judgement,
    Objective,
    Prepare,
    Rival,
    Source,
    TaskData,
    Unlabelled,
)
from kerastl.tasks.regression import Regression
from kerastl.tasks.task import (
    TrainedFor,
    find_source,
    objective_named,
    objective_of,
    said_of,
)
from kerastl.tasks.text_examples import TextExamples
from kerastl.tasks.text_lines import TextLines
from kerastl.tasks.text_table import TextTable
from kerastl.tasks.tf_idf import tf_idf
from kerastl.tasks.writing import Writer, read_examples, read_prompts

__all__ = [
    "Classification",
    "Examples",
    "Finer",
    "HeldOut",
    "ImageFolder",
    "ImageTable",
    "Judgement",
    "LineExamples",
    "MultiLabel",
    "NextToken",
    "Objective",
    "Paired",
    "PictureExamples",
    "Prepare",
    "PrepareLines",
    "PreparePictures",
    "PrepareTexts",
    "Regression",
    "Rival",
    "Source",
    "TaskData",
    "TextExamples",
    "TextLines",
    "TextTable",
    "TrainedFor",
    "Unlabelled",
    "Writer",
    "find_source",
    "objective_named",
    "objective_of",
    "paired",
    "pooled",
    "read_examples",
    "read_prompts",
    "said_of",
    "tf_idf",
]
