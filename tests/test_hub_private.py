import pytest

from mgen.errors import MgenError
from mgen.hub.private import base_name, check_private, redact

HOME = "/home" + "/grace"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"{HOME}/runs/base/model", "base"),
        ("runs/base/model", "base"),
        ("C:\\Users\\grace\\runs\\jazz\\model", "jazz"),
        ("corpus/", "corpus"),
        ("jazz=runs/x/model", "x"),
        ("~grace/music", "music"),
        ("..", "unnamed"),
        ("/", "unnamed"),
    ],
)
def test_a_path_becomes_its_own_name(path, name):
    assert base_name(path) == name


def test_what_says_how_it_was_trained_stays_and_the_rest_goes():
    record = {
        "corpus": f"{HOME}/my music/corpus",
        "bands": "../bands.json",
        "out": f"{HOME}/runs/jazz",
        "hub_token": "x",
        "api_key": "x",
        "trackio_space_id": "grace/space",
        "note": "hf_" + "a" * 30,
        "max_tokens": 256,
        "prompt_tokens": [24, 64],
        "learning_rate": 1e-3,
        "judges": ["style=1"],
        "metre": "3/4",
        "unit": "nats a note / beat",
        "link": "https://example.org/a/b",
        "nested": {"model": [f"base={HOME}/runs/base/model"]},
    }
    assert redact(record) == {
        "corpus": "corpus",
        "bands": "bands.json",
        "note": "left out",
        "max_tokens": 256,
        "prompt_tokens": [24, 64],
        "learning_rate": 1e-3,
        "judges": ["style=1"],
        "metre": "3/4",
        "unit": "nats a note / beat",
        "link": "https://example.org/a/b",
        "nested": {"model": ["base"]},
    }


@pytest.mark.parametrize(
    ("text", "said"), [(f"see {HOME}/x", "names your home folder"), ("key: hf_" + "Z" * 34, "an access token")]
)
def test_what_got_in_some_other_way_stops_everything(text, said, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "notes.md").write_text(text)
    with pytest.raises(MgenError, match=said) as caught:
        check_private(tmp_path, {HOME: "your home folder"})
    assert "\n" not in str(caught.value)


def test_another_folder_whose_name_begins_alike_is_none_of_them(tmp_path):
    (tmp_path / "a.json").write_text(f'"{HOME}hopper/x https://example.org{HOME}"')
    check_private(tmp_path, {HOME: "your home folder", "/": "the root"})
