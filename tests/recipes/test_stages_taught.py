"""The stages of a compression learn what the network answered before them."""

import dataclasses

import numpy as np

from kerastl.recipes import CompressSettings
from kerastl.recipes.finished import load_run
from kerastl.recipes.stages import StageJob, retrain
from kerastl.training import FineTuner
from tests.recipes.compress_cases import FAST, read, write_run


def test_stages_learn_from_the_teacher_by_the_share_asked_for(tmp_path):
    """On wrong labels, a network that listens to its teacher stays right."""
    data, run = write_run(tmp_path)
    examples = read(run, data)
    wrong = examples.train.with_targets((np.asarray(examples.train.targets) + 1) % 3)
    examples = dataclasses.replace(examples, train=wrong)
    agreement = {}
    for share in (0.0, 1.0):
        model, teacher = (FineTuner.from_model(load_run(run).model) for _ in range(2))
        config = CompressSettings(prune=0.5, seed=0, distill=share, **{**FAST, "epochs": 6})
        retrain(model, StageJob(examples, config, teacher))
        pixels = examples.train.inputs()
        answers = [m.predict(pixels, verbose=0).argmax(1) for m in (model, teacher)]
        agreement[share] = (answers[0] == answers[1]).mean()
    assert agreement[1.0] > 0.9 > agreement[0.0]
