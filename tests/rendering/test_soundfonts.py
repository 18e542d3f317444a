"""A soundfont is found, or the message says where one comes from."""

import pytest
from soundfonts import write_soundfont

from seqgen.errors import UserError
from seqgen.rendering.sound import soundfonts
from seqgen.rendering.sound.soundfonts import VARIABLE, find_soundfont


@pytest.fixture(autouse=True)
def _plain_environment(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(soundfonts, "FOLDERS", [tmp_path / "none", tmp_path])


def test_none_is_a_message_with_package_option_and_variable(tmp_path):
    with pytest.raises(UserError) as error:
        find_soundfont()
    for said in ("apt-get install timgm6mb-soundfont", "--soundfont", VARIABLE):
        assert said in str(error.value)


def test_the_administrators_choice_comes_first_then_the_better_known(tmp_path):
    names = ["TimGM6mb.sf2", "aaa.SF3", "FluidR3_GM.sf2", "default-GM.sf2"]
    for name in names:
        write_soundfont(tmp_path / name)
    (tmp_path / "readme.txt").write_text("default-GM.sf2")
    for expected in ("default-GM.sf2", "FluidR3_GM.sf2", "TimGM6mb.sf2", "aaa.SF3"):
        found = find_soundfont()
        assert found.name == expected
        found.unlink()


def test_what_is_named_goes_before_the_environment_and_the_system(tmp_path, monkeypatch):
    system, environment, named = (tmp_path / x for x in ("x.sf2", "b/x.sf2", "c/x.sf2"))
    for path in (system, environment, named):
        write_soundfont(path)
    assert find_soundfont() == system
    monkeypatch.setenv(VARIABLE, str(environment))
    assert find_soundfont() == environment
    assert find_soundfont(named) == named


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), (b"RIFF0000WAVE", "is not")])
def test_a_named_file_that_is_none_is_said_with_its_source(tmp_path, monkeypatch, content, said):
    path = tmp_path / "x.sf2"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"--soundfont.*{said}"):
        find_soundfont(path)
    monkeypatch.setenv(VARIABLE, str(path))
    with pytest.raises(UserError, match=f"{VARIABLE}.*{said}"):
        find_soundfont()
