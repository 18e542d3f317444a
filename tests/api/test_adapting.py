"""A run goes on with other files, by settings of its own, and keeps all that it can do."""

import pytest
from making import write_songs

from seqgen.api.runs import begin
from seqgen.api.settings import adapting, read_config
from seqgen.checkpoint import save_model
from seqgen.config import DataConfig, LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.errors import UserError
from seqgen.model.sequence_model import SequenceModel
from seqgen.tasks import with_marks
from seqgen.tokenizers import build_tokenizer, settled


def write_start(folder, **data):
    """Write a model that has learned nothing, with the tokens of some tasks and controls."""
    config = settled(TokenizerConfig(parts="tracks", part_names=["0", "32"]))
    tokenizer = build_tokenizer(with_marks(config, DataConfig(**data)), LimitsConfig())
    model = SequenceModel(ModelConfig(d_model=16, n_layers=1, n_heads=2), tokenizer.vocabulary)
    save_model(folder / "model", model, tokenizer, step=0)
    return folder


def job_of(tmp_path, *settings):
    write_songs(tmp_path / "songs", 2)
    place = (f"data.source={tmp_path / 'songs'}", f"run.dir={tmp_path / 'run'}")
    arguments = adapting(str(tmp_path / "start"), (*place, *settings))
    with begin(read_config(arguments), resume=False, tell=lambda line: None) as job:
        return job.config


def test_it_has_the_settings_of_its_file_and_the_tokens_and_sizes_of_the_run(tmp_path):
    write_start(tmp_path / "start")
    config = job_of(tmp_path, "train.max_steps=70")
    assert config.model.d_model == 16
    assert config.tokenizer.part_names == ["0", "32"]
    assert config.train.early_stopping == 3
    assert config.train.max_steps == 70
    assert config.data.tasks == {}


def test_it_goes_on_learning_what_the_run_has_learned_to_do(tmp_path):
    write_start(tmp_path / "start", tasks={"continue": 0.9, "infill": 0.1}, controls=["key"])
    config = job_of(tmp_path)
    assert config.data.tasks == {"continue": 0.5, "infill": 0.5}
    assert config.data.controls == ["key"]


def test_windows_of_tasks_exclude_a_carried_state(tmp_path):
    write_start(tmp_path / "start", tasks={"continue": 0.9, "infill": 0.1})
    with pytest.raises(UserError, match="has learned tasks or controls"):
        job_of(tmp_path, "train.carry_state=true")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "data.source=FOLDER"),
        (("configs/midi.yaml", "data.source=x"), "leave out configs/midi.yaml"),
    ],
)
def test_what_does_not_go_together_is_said(arguments, said):
    with pytest.raises(UserError, match=said):
        adapting("runs/mine", arguments)
