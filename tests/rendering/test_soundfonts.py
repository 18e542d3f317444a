"""A soundfont is found, or the message says where one comes from."""

import pytest
from soundfonts import write_soundfont

from seqgen.errors import UserError
from seqgen.rendering.sound.soundfonts import VARIABLE, find_soundfont


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


def test_none_is_a_message_with_package_option_and_variable(tmp_path):
    with pytest.raises(UserError) as error:
        find_soundfont(folders=[tmp_path, tmp_path / "none"])
    for said in ("apt-get install timgm6mb-soundfont", "--soundfont", VARIABLE):
        assert said in str(error.value)


def test_the_administrators_choice_comes_first_then_the_better_known(tmp_path):
    names = ["TimGM6mb.sf2", "aaa.SF3", "FluidR3_GM.sf2", "default-GM.sf2"]
    for name in names:
        write_soundfont(tmp_path / name)
    (tmp_path / "readme.txt").write_text("default-GM.sf2")
    for expected in ("default-GM.sf2", "FluidR3_GM.sf2", "TimGM6mb.sf2", "aaa.SF3"):
        found = find_soundfont(folders=[tmp_path])
        assert found.name == expected
        found.unlink()


def test_what_is_named_goes_before_the_environment_and_the_system(tmp_path, monkeypatch):
    system, environment, named = (write_soundfont(tmp_path / x / "x.sf2") for x in "abc")
    assert find_soundfont(folders=[system.parent]) == system
    monkeypatch.setenv(VARIABLE, str(environment))
    assert find_soundfont(folders=[system.parent]) == environment
    assert find_soundfont(named, folders=[system.parent]) == named


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
