"""Source × Objective: where examples come from, and what is learnt of them."""

from kerastl.tasks.classification import Classification
from kerastl.tasks.image_folder import ImageFolder
from kerastl.tasks.image_table import ImageTable
from kerastl.tasks.multi_label import MultiLabel
from kerastl.tasks.paired import Paired, paired, pooled
from kerastl.tasks.picture_examples import PictureExamples
from kerastl.tasks.pictures import PreparePictures
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
from kerastl.tasks.task import TrainedFor, find_source, objective_named
from kerastl.tasks.text_examples import TextExamples
from kerastl.tasks.text_table import TextTable
from kerastl.tasks.tf_idf import tf_idf

__all__ = [
    "Classification",
    "Examples",
    "Finer",
    "HeldOut",
    "ImageFolder",
    "ImageTable",
    "Judgement",
    "MultiLabel",
    "Objective",
    "Paired",
    "PictureExamples",
    "Prepare",
    "PreparePictures",
    "PrepareTexts",
    "Regression",
    "Rival",
    "Source",
    "TaskData",
    "TextExamples",
    "TextTable",
    "TrainedFor",
    "Unlabelled",
    "find_source",
    "objective_named",
    "paired",
    "pooled",
    "tf_idf",
]
