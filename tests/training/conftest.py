"""A small prepared corpus, and a run of a few steps on it."""

import pytest
from making import write_songs
from preparing import prepare

from seqgen.checkpoint import RunFolder
from seqgen.config import DataConfig, LimitsConfig, ModelConfig, TokenizerConfig, TrainConfig
from seqgen.training.trainer import train

TINY = ModelConfig(d_model=16, n_layers=1, n_heads=2, dropout=0.1)
FEW = {
    "max_steps": 6,
    "schedule_steps": 12,
    "batch_size": 4,
    "context_length": 24,
    "learning_rate": 1e-2,
    "warmup_steps": 2,
    "validate_every": 3,
    "checkpoint_every": 2,
    "log_every": 1,
    "validation_tokens": 100,
    "accelerator": "cpu",
    "sample_tokens": 0,
}


def make_data(folder, *, validation):
    write_songs(folder / "songs", 10, bars=4)
    config = DataConfig(
        source=str(folder / "songs"),
        prepared_dir=str(folder),
        validation=validation,
        test=0.0,
        transpose=1,
    )
    return prepare(config, LimitsConfig(), TokenizerConfig()).data


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("training"), validation=0.2)


@pytest.fixture(scope="session")
def unsplit(tmp_path_factory):
    """The same corpus with nothing held out."""
    return make_data(tmp_path_factory.mktemp("unsplit"), validation=0.0)


def train_in(
    path,
    data,
    *,
    resume=False,
    start=None,
    model=TINY,
    seed=3,
    kernel="auto",
    pairs=None,
    tell=lambda line: None,
    **settings,
):
    """Train a tiny model into a run folder; return folder and outcome."""
    folder = RunFolder(path)
    folder.path.mkdir(exist_ok=True)
    outcome = train(
        folder,
        data,
        model,
        TrainConfig(**{**FEW, **settings}),
        seed=seed,
        kernel=kernel,
        pairs=pairs,
        resume=resume,
        start=start,
        tell=tell,
        show_progress=False,
    )
    return folder, outcome


@pytest.fixture
def run_steps(tmp_path, prepared):
    """Train a tiny model into the named run folder; return folder and outcome."""
    return lambda name, *, data=prepared, **choices: train_in(tmp_path / name, data, **choices)


@pytest.fixture(scope="session")
def left_alone(tmp_path_factory, prepared):
    """Train a tiny model without a stop, once for the same settings; tests only read the run."""
    runs = {}

    def run(**settings):
        key = tuple(settings.items())
        if key not in runs:
            runs[key] = train_in(tmp_path_factory.mktemp("left-alone"), prepared, **settings)
        return runs[key]

    return run
