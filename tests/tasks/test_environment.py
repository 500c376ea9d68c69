"""State of the home folder and the environment does not change results under the same key."""

from __future__ import annotations

import json

import numpy as np
import pytest
from trees import only

from pipeline.runs.result import read_run

LUIGI = ("-m", "luigi", "--module", "tasks")
BRIEF = ("--dataset", "digits", "--subset", "100", "--weights", "random", "--precision", "float32")


@pytest.fixture
def keras_home(tmp_path):
    """A home folder with a keras.json in which every value is another than Keras's own."""
    home = tmp_path / "home"
    (home / ".keras").mkdir(parents=True)
    config = {
        "floatx": "float16",
        "epsilon": 0.1,
        "backend": "tensorflow",
        "image_data_format": "channels_first",
    }
    (home / ".keras" / "keras.json").write_text(json.dumps(config))
    return home


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_is_the_same_whatever_the_home_folder_and_the_environment_say(call, tmp_path, keras_home):
    environments = {
        "plain": {},
        "keras": {"HOME": str(keras_home), "KERAS_HOME": str(keras_home / ".keras")},
        "others": {"TF_USE_LEGACY_KERAS": "1", "PYTHONOPTIMIZE": "2", "LANG": "C", "HOME": "/nonexistent"},
    }
    predictions = {}
    for name, environment in environments.items():
        data = tmp_path / name
        environment = {**environment, "HEADSTART_DATA_DIR": str(data)}
        options = ("--recipe", "dense-bn", "--epochs", "2", "--layers", "block1_pool")
        done = call(*LUIGI, "TrainHead", *BRIEF, *options, **environment)
        assert done.returncode == 0, done.stderr
        run = only(data, "runs/*/manifest.json").parent
        predictions[name] = run.name, read_run(run).split("test").probabilities
        done = call("-m", "tasks.commands.main", "export", run.name, "model.keras", **environment)
        assert done.returncode == 0, done.stderr
        (tmp_path / "model.keras").unlink()
    for run, probabilities in predictions.values():
        assert run == predictions["plain"][0]
        np.testing.assert_array_equal(probabilities, predictions["plain"][1])
