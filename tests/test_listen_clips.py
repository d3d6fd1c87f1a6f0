from __future__ import annotations

import json
from collections import Counter

import pytest
from instrument_scores import score_of

from mgen.errors import MgenError
from mgen.listen.clips import ClipFile, draw_pairs, from_midi, from_samples, is_evaluation, match_prompts
from mgen.listen.vote_store import StudyClip
from mgen.sampling.samples import SamplePrompt, write_samples


def midi(folder, *names, pitch=0):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        score_of((0, False, "", 2 + (i + pitch) % 7)).dump_midi(folder / name)
    return folder


def evaluation(folder, remi, completions, prompts=3, first=0):
    bar = remi.names.index("Bar_None")
    named = [
        SamplePrompt(f"continuation/{i:04d}", "continuation", f"w{i}", [remi.bos_id, bar, bar + first])
        for i in range(prompts)
    ]
    write_samples(folder / "samples", "jazz", named, completions, remi)
    return folder


def clip(system, prompt, ids=None, digest=""):
    return ClipFile(StudyClip(system, prompt, "", digest or f"{system} {prompt}", ids, ids), None)


def prompts_of(clip_files):
    out = {}
    for one in clip_files:
        out.setdefault(one.clip.system, []).append(one.clip.prompt)
    return out


# ------------------------------------------------------------------------------------------------------------ reading


def test_an_evaluation_is_read_with_its_tokens(tmp_path, remi, demo_pieces):
    from mgen.corpus.clean import normalise

    music = remi.encode(normalise(demo_pieces[0], "piano"))[0].tolist()
    prompt, rest = [remi.bos_id, remi.style_ids["jazz"], *music[:64]], music[64:160]
    named = [SamplePrompt("continuation/0000", "continuation", "a work", prompt)]
    write_samples(tmp_path / "samples", "jazz", named, {"real": [rest], "m": [rest[:40]]}, remi)
    assert is_evaluation(tmp_path) and is_evaluation(tmp_path / "samples")
    found = from_samples(tmp_path)
    assert [one.clip.system for one in found] == ["real", "m"]
    assert found[0].clip.prompt == found[1].clip.prompt and found[0].clip.work == "a work"
    assert found[0].clip.prompt_ids == tuple(prompt) and found[1].clip.completion_ids == tuple(rest[:40])
    assert found[0].path.is_file() and found[0].clip.digest != found[1].clip.digest
    # The prompt ends with its last onset: at 120 quarters a minute a step is 1/48 s.
    steps = json.loads((tmp_path / "samples" / "index.json").read_text())["items"][0]["prompt_end"]
    assert found[0].prompt_seconds == pytest.approx(steps / 48) and steps > 24


def test_a_folder_of_files_is_a_system(tmp_path):
    folder = midi(tmp_path / "theirs", "b.mid", "a.MID", "c.midi")
    (folder / "notes.txt").write_text("not music")
    midi(folder / "deeper", "d.mid")
    found = from_midi(folder, "theirs")
    assert [one.clip.prompt for one in found] == ["a", "b", "c", "deeper/d"]
    assert {one.clip.system for one in found} == {"theirs"} and found[0].clip.completion_ids is None


def test_what_was_continued_is_part_of_the_prompt(tmp_path):
    for name, prompt in (("one", "x/theme.mid"), ("two", "y/theme.mid"), ("three", "")):
        midi(tmp_path / name, "0000.mid")
        (tmp_path / name / "index.json").write_text(json.dumps({"prompt": prompt, "pieces": []}))
    prompts = [from_midi(tmp_path / name, name)[0].clip.prompt for name in ("one", "two", "three")]
    assert prompts == ["0000 of theme.mid", "0000 of theme.mid", "0000"]
    assert not is_evaluation(tmp_path / "one")


@pytest.mark.parametrize("content", ["no json", "[]", "{}"])
def test_an_index_of_something_else_is_left_alone(tmp_path, content):
    midi(tmp_path, "a.mid")
    (tmp_path / "index.json").write_text(content)
    assert not is_evaluation(tmp_path) and len(from_midi(tmp_path, "x")) == 1


def test_an_empty_folder(tmp_path):
    with pytest.raises(MgenError, match=r"no music to read.*samples of mgen evaluate"):
        from_midi(tmp_path, "x")
    with pytest.raises(MgenError, match="no such file"):
        from_midi(tmp_path / "none", "x")


# ------------------------------------------------------------------------------------------------------------ joining


def test_systems_of_two_evaluations(remi, tmp_path):
    """Real music of the same prompts is one system; two models of one name are two."""
    bar = remi.names.index("Bar_None")
    one = from_samples(evaluation(tmp_path / "one", remi, {"real": [[bar]] * 3, "m": [[bar] * 2] * 3}))
    two = from_samples(evaluation(tmp_path / "two", remi, {"real": [[bar]] * 3, "m": [[bar] * 3] * 3}))
    found = prompts_of(match_prompts({"one": one, "two": two}))
    assert list(found) == ["real", "m", "two/m"]
    assert found["real"] == found["m"] == found["two/m"] and len(found["real"]) == 3


def test_prompts_of_one_name_and_other_tokens_are_two(remi, tmp_path):
    bar = remi.names.index("Bar_None")
    one = from_samples(evaluation(tmp_path / "one", remi, {"x": [[bar]] * 3}))
    two = from_samples(evaluation(tmp_path / "two", remi, {"y": [[bar]] * 3}, first=1))
    with pytest.raises(MgenError, match="x, y: no prompt that two of them completed"):
        draw_pairs(match_prompts({"one": one, "two": two}), 5, 0)


def test_files_of_one_name_share_a_prompt():
    runs = {name: [clip(name, f"tune {i}") for i in range(4)] for name in ("x", "y")}
    found = prompts_of(match_prompts(runs))
    assert found["x"] == found["y"] == [f"tune {i}" for i in range(4)]


def test_files_of_other_names_meet_at_random():
    runs = {"x": [clip("x", f"x {i}") for i in range(5)], "y": [clip("y", f"y {i}") for i in range(8)]}
    joined = match_prompts(runs)
    assert len(draw_pairs(joined, 99, 0)) == 5
    digests = [one.clip.digest for one in joined if one.clip.system == "y"]
    assert digests != sorted(digests) and set(digests) == {f"y y {i}" for i in range(8)}
    assert [one.clip.digest for one in match_prompts(runs, seed=1)] != [one.clip.digest for one in joined]


def test_files_meet_an_evaluation_at_random_on_its_works():
    own = [ClipFile(StudyClip(system, f"p{i}", f"w{i}", system, (1,), (i,)), None) for i in range(3) for system in "mn"]
    found = match_prompts({"eval": own, "files": [clip("files", f"f{i}") for i in range(9)]})
    assert prompts_of(found)["files"] == ["p0", "p1", "p2"]
    assert {one.clip.work for one in found if one.clip.system == "files"} == {"w0", "w1", "w2"}


def test_chosen_systems():
    runs = {"r": [clip(system, f"p{i}") for i in range(2) for system in "abc"]}
    assert list(prompts_of(match_prompts(runs, ["c", "a"]))) == ["a", "c"]
    with pytest.raises(MgenError, match="--systems d: expected some of a, b, c"):
        match_prompts(runs, ["a", "d"])
    with pytest.raises(MgenError, match="two or more systems to compare, found a"):
        match_prompts(runs, ["a"])


# -------------------------------------------------------------------------------------------------------------- pairs


def test_pairs_are_of_one_prompt_and_systems_meet_equally_often():
    clip_files = [clip(system, f"p{i}") for i in range(20) for system in "abcd"]
    pairs = draw_pairs(clip_files, 45, 0)
    assert len(set(pairs)) == 45
    met = Counter()
    for first, second in pairs:
        one, two = clip_files[first].clip, clip_files[second].clip
        assert one.prompt == two.prompt and one.system < two.system
        met[one.system, two.system] += 1
    assert len(met) == 6 and set(met.values()) == {7, 8}
    prompts = Counter(clip_files[first].clip.prompt for first, _ in pairs)
    assert set(prompts.values()) == {2, 3}  # gone through in trial


def test_no_take_is_heard_twice_while_there_are_new_prompts():
    clip_files = [clip(system, f"p{i}") for i in range(20) for system in "abc"]
    uses = Counter(i for pair in draw_pairs(clip_files, 20, 0) for i in pair)
    assert set(uses.values()) == {1}


def test_all_pairs_and_no_more():
    clip_files = [clip(system, f"p{i}") for i in range(2) for system in "abc"]
    assert len(draw_pairs(clip_files, 99, 0)) == 6
    assert draw_pairs(clip_files, 4, 0) == draw_pairs(clip_files, 4, 0) != draw_pairs(clip_files, 4, 1)


def test_prompts_that_one_system_continued_are_left_out():
    clip_files = [clip("a", "p"), clip("b", "p"), clip("a", "q")]
    assert draw_pairs(clip_files, 9, 0) == [(0, 1)]
