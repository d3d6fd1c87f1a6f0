"""`mgen generate`: guidance, a repetition penalty, and the best of several completions; judges by name and of a run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import mido
import numpy as np
import pytest
import soundfile
import torch
import yaml
from critics_music import MEDIANS
from symusic import Score, core

import mgen
from critics.realism.feature_discriminator import FeatureDiscriminator, FeatureDiscriminatorOptions
from critics.sequence import SequenceCritic
from critics.style import StyleCritic
from critics.style.critic import TokenModel
from mgen.cli import card, evaluate, finetune, generate, listen, pretrain
from mgen.cli.critic import main as train_critic
from mgen.corpus.shards import Corpus
from mgen.corpus.windows import sample_windows
from mgen.errors import MgenError
from mgen.models.transformer import load_policy
from mgen.notes import Notes
from mgen.runs.checkpoints import write_manifest
from mgen.runs.judges import judges_of_options, judges_of_run
from mgen.stats.calibration import Calibration
from mgen.workflows.judges import JUDGES
from rewards import REWARDS
from rewards.bands import fit_bands, save_bands

pytestmark = pytest.mark.slow

QUIET = ["--report_to", "none", "--disable_tqdm", "true"]


@pytest.fixture(scope="module")
def base(tiny_policy, remi, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "model"
    tiny_policy(seed=1, initializer_range=0.3, max_position_embeddings=256).save_pretrained(folder)
    remi.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def critic(remi, tmp_path_factory):
    folder = tmp_path_factory.mktemp("critic") / "model"
    model = TokenModel(SequenceCritic.new(remi, max_tokens=127), Calibration(), MEDIANS)
    StyleCritic(model, "jazz", min_notes=1).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def excerpts(small_corpus, remi):
    table = Corpus.open(small_corpus).table("train", "jazz")
    return Notes.from_ids(list(sample_windows(table, remi, 40, 100, np.random.default_rng(0))[0]), remi)


SILENT = ["--audio", "false", "--picture", "false"]


def words(base, out, *more):
    return ["--model", str(base), "--out", str(out), "--max_new_tokens", "40", "--n", "3", *SILENT, *more]


def index(out):
    return json.loads((out / "index.json").read_text())


def test_every_option_changes_the_music(base, tmp_path):
    music = {}
    for name, more in {
        "plain": [],
        "guided": ["--guidance", "4"],
        "penalised": ["--repetition_penalty", "5"],
        "unmasked": ["--grammar", "false"],
        "likelier": ["--min_p", "0.5"],
        "again": ["--guidance", "1", "--repetition-penalty", "1"],
    }.items():
        assert generate.main(words(base, tmp_path / name, "--style", "jazz", *more)) == 0
        files = [(tmp_path / name / entry["file"]).read_bytes() for entry in index(tmp_path / name)["pieces"]]
        music[name] = files, index(tmp_path / name)["pieces"]  # the latter differ for pieces without notes too
    assert music["plain"] == music["again"]
    assert all(music[name] != music["plain"] for name in ("guided", "penalised", "unmasked", "likelier"))
    assert all(piece["broken_tokens"] == 0 < piece["removed_by_grammar"] < 1 for piece in music["plain"][1])
    assert all(piece["broken_tokens"] > 0 for piece in music["unmasked"][1])
    assert all(piece["removed_by_grammar"] is None for piece in music["unmasked"][1])
    assert index(tmp_path / "guided")["decoding"]["guidance"] == 4


def test_the_call_gives_the_pieces_and_prints_nothing(base, tmp_path, capsys):
    result = mgen.generate(base, tmp_path / "out", n=2, max_new_tokens=20, style="jazz", audio=False)
    assert result.notes.n_pieces == 2 and result.facts == index(tmp_path / "out")
    assert capsys.readouterr().out == ""


@pytest.fixture(scope="module")
def theme(tmp_path_factory):
    """Twelve bars of quarter notes in 3/4 at 90 a minute, after an empty bar at 200; the last bars are faster."""
    score = core.ScoreTick(480)
    score.time_signatures.append(core.TimeSignatureTick(0, 3, 4))
    for time, tempo in ((0, 200), (1440, 90), (9600, 150)):
        score.tempos.append(core.TempoTick(time, qpm=tempo))
    track = core.TrackTick("", 0, False)
    for i in range(36):
        track.notes.append(core.NoteTick(1440 + 480 * i, 480, 60 + 7 * i % 12, 80))
    score.tracks.append(track)
    path = tmp_path_factory.mktemp("prompt") / "theme.mid"
    score.dump_midi(path)
    return path


def music_of(path):
    """Tempo, metre and (quarter, pitch) of the notes of a file, as mido reads them."""
    file, found, notes, tick = mido.MidiFile(path), {}, [], 0
    for message in mido.merge_tracks(file.tracks):
        tick += message.time
        if message.type == "set_tempo":
            found.setdefault("tempo", round(mido.tempo2bpm(message.tempo), 2))
        elif message.type == "time_signature":
            found.setdefault("metre", f"{message.numerator}/{message.denominator}")
        elif message.type == "note_on" and message.velocity:
            notes.append((tick / file.ticks_per_beat, message.note))
    return found, notes


@pytest.mark.parametrize(
    ("more", "tempo"), [([], 90.0), (["--tempo", "70"], 70.0), (["--include_prompt", "false"], 90.0)]
)
def test_the_tempo_and_the_metre_of_the_prompt_are_kept(base, theme, tmp_path, more, tempo):
    out = tmp_path / "out"
    begin = ["--prompt", str(theme), "--prompt_from", "start"]
    assert generate.main(words(base, out, *begin, "--seed", "3", *more)) == 0
    first = [(float(i), 60 + 7 * i % 12) for i in range(10)]  # 64 tokens hold these notes, and the begin of the next
    whole = "false" not in more
    for entry in index(out)["pieces"]:
        found, notes = music_of(out / entry["file"])
        assert found["tempo"] == tempo and (notes[: len(first)] == first) == whole
        assert found["metre"] == "3/4" or not whole  # the policy's own
    assert index(out)["tempo"] == tempo and index(out)["include_prompt"] == whole


def test_without_a_prompt_the_tempo_is_120(base, tmp_path):
    generate.main(words(base, tmp_path / "out"))
    assert music_of(tmp_path / "out" / "0000.mid")[0]["tempo"] == 120.0


def markers(path):
    """(quarter, text) of the markers of a file, and the names of its tracks with notes, as mido reads them."""
    file, found, names = mido.MidiFile(path, charset="utf-8"), [], []
    for track in file.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "marker":
                found.append((tick / file.ticks_per_beat, message.text))
        names += [track.name] if any(message.type == "note_on" for message in track) else []
    return found, names


def test_a_prompt_is_continued_from_its_end(base, theme, tmp_path, capsys):
    """All 36 quarters of it, in the file; its notes do not fit the context, so the policy reads its last bars."""
    out = tmp_path / "Stück 音 2"
    more = ["--prompt", str(theme), "--bars", "6", "--max_new_tokens", "1000"]
    assert generate.main(words(base, out, *more)) == 0
    assert f"{theme}: 3 tempos; the first one holds throughout" in capsys.readouterr().out
    facts = index(out)
    assert facts["prompt_changes"] == {"tempos": 3} and facts["asked"]["bars"] == 6 and facts["prompt_tokens"] > 130
    for entry in facts["pieces"]:
        found, notes = music_of(out / entry["file"])
        assert notes[:36] == [(float(i), 60 + 7 * i % 12) for i in range(36)]
        assert found == {"tempo": 90.0, "metre": "3/4"}
        assert (entry["new_bars"], entry["bars"], entry["broken_tokens"]) == (6, 18, 0)
        ((quarter, text),) = markers(out / entry["file"])[0]
        assert text == "prompt ends" and quarter == entry["prompt_end"] / 24 >= 35
        assert entry["notes"] == len(notes) == 36 + entry["new_notes"]
        assert entry["new_notes"] == 0 or min(at for at, _ in notes[36:]) == quarter


def test_the_names_of_the_prompts_tracks_are_kept(base, tmp_path):
    score = core.ScoreTick(480)
    for name, program in (("Gitarre 音", 24), ("Bass", 33)):
        track = core.TrackTick(name, program, False)
        track.notes.append(core.NoteTick(0, 480, 40 + program, 80))
        score.tracks.append(track)
    score.dump_midi(tmp_path / "two.mid")
    assert generate.main(words(base, tmp_path / "out", "--prompt", str(tmp_path / "two.mid"))) == 0
    assert markers(tmp_path / "out" / "0000.mid")[1] == ["Gitarre 音 + Bass"]
    assert index(tmp_path / "out")["prompt_changes"]["instruments"] == 2


def test_an_ending_where_there_is_one(base, tmp_path, capsys):
    """The untrained policy ends now and then; what does not keeps the length that was asked for."""
    out = tmp_path / "out"
    more = ["--n", "6", "--notes", "12", "--ending", "true", "--style", "jazz"]
    assert generate.main([*words(base, out, *more), "--max_new_tokens", "400"]) == 0
    pieces, lines = index(out)["pieces"], capsys.readouterr().out
    ended = [piece["ended"] for piece in pieces]
    assert any(ended) and all(piece["notes"] >= 12 for piece in pieces)
    assert all(piece["notes"] == 12 for piece in pieces if not piece["ended"])
    assert ("found no ending" in lines) == (not all(ended))


def test_sound_and_picture_lie_next_to_each_file(base, theme, tmp_path, capsys, monkeypatch):
    """And are played, or a line says why not."""
    monkeypatch.setenv("PATH", str(tmp_path))
    out = tmp_path / "out"
    more = ["--prompt", str(theme), "--prompt_tokens", "60", "--audio", "true", "--picture", "true", "--play", "true"]
    assert generate.main(words(base, out, *more)) == 0
    assert re.search(r"^not played: no .*; open .*0000.ogg$", capsys.readouterr().err, re.MULTILINE)
    for piece in index(out)["pieces"]:
        sound, rate = soundfile.read(out / piece["audio"])
        assert len(sound) / rate > 8 and np.sqrt(np.mean(sound**2)) > 0.01  # twelve quarters at 90 at least
        drawing = ElementTree.parse(out / piece["picture"]).getroot()
        kinds = [part.get("class") or "" for part in drawing.iter("{http://www.w3.org/2000/svg}rect")]
        assert sum("pr-note" in kind for kind in kinds) == piece["notes"]
        given = sum(quarter * 24 < piece["prompt_end"] for quarter, _ in music_of(out / piece["file"])[1])
        assert sum("pr-given" in kind for kind in kinds) == given >= 10


def test_without_a_model_that_of_the_demo_is_taken(base, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MgenError, match=r"expected --model RUN/model, got none, .*; run mgen demo --quick") as caught:
        generate.main(["--n", "1"])
    assert "\n" not in str(caught.value) and not any(tmp_path.iterdir())
    shutil.copytree(base, tmp_path / "runs" / "demo" / "quick" / "base" / "model")
    for folder in ("pieces", "pieces-2"):
        assert generate.main(["--n", "1", "--max_new_tokens", "9", *SILENT]) == 0
        assert index(tmp_path / folder)["model"] == str(Path("runs/demo/quick/base/model"))
        assert index(tmp_path / folder)["style"] == "jazz"


@pytest.mark.parametrize(
    ("main", "more", "message"),
    [
        (finetune.main, ["--judges", "grammar=1", "--policy"], r"max_completion_length \(192\).*give at most 190"),
        (evaluate.main, ["--model"], r"completion_tokens \(192\) does not fit: .*give at most 190"),
        (listen.main, ["--prompt_tokens", "254"], r"prompt_tokens \(254\) does not fit: .*give at most 253"),
        (card.main, ["grammar", "--n", "20", "--tokens", "255", "--policy"], r"tokens \(255\).*give at most 230"),
        (train_critic, ["--input", "tokens", "--init"], r"max_tokens \(256\) and an EOS do not fit .*; try 255"),
    ],
)
def test_in_every_command_what_does_not_fit_the_context_is_one_line(base, small_corpus, tmp_path, main, more, message):
    out = tmp_path / ("votes.sqlite" if main is listen.main else "out")
    model = [*more, str(base)] if main is not listen.main else [str(base), *more, "--completion_tokens", "2"]
    assert_refused(main, [*model, "--corpus", str(small_corpus), "--out", str(out)], message, tmp_path)


def assert_refused(main, options, message, folder):
    with pytest.raises(MgenError, match=message) as caught:
        main(options)
    assert "\n" not in str(caught.value) and not any(folder.iterdir())


def test_best_of_keeps_the_critics_best(base, critic, remi, tmp_path, capsys):
    judge = StyleCritic.from_pretrained(critic, remi)
    means = []
    for tries in ("1", "12"):
        more = ["--critic", str(critic)] if tries != "1" else []
        out = tmp_path / tries
        # dashes and underscores are one
        assert generate.main(words(base, out, "--n", "6", "--best-of", tries, "--top-k", "50", *more, "--json")) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["decoding"]["best_of"] == int(tries)
        assert (facts["pieces"][0]["nats_per_token"] is None) == (tries != "1")
        pieces = Notes.from_scores([Score(out / entry["file"]) for entry in facts["pieces"]])
        means.append(judge(pieces).score.mean())
    assert means[1] > means[0]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--best_of", "4"], "best_of needs judges: give --judges_of RUN, --critic"),
        (["--best_of", "4", "--judges", "grammar=1"], "expected --bands FILE"),
        (["--best_of", "4", "--judges", "gramar=1"], "did you mean 'grammar'"),
        (["--best_of", "4", "--judges", "realism=1"], "the discriminator lives in a run"),
        (["--best_of", "4", "--judges", "style=1"], "expected --critic FOLDER"),
        (["--best_of", "4", "--temperature", "0", "--critic", "x"], "only one completion"),
        (["--best_of", "0"], r"best_of \(0\) must be at least 1"),
        (["--critic", "x"], "give --best_of"),
        (["--judges_of", "x"], "give --best_of"),
        (["--best_of", "4", "--judges_of", "x", "--critic", "x"], "leave out critic"),
        (["--best_of", "4", "--judges_of", "x"], "expected a run of mgen finetune"),
        (["--guidance", "2"], "guidance needs a style to lead to"),
        (["--guidance", "-1", "--style", "jazz"], r"guidance \(-1\) must be at least 0"),
        (["--repetition_penalty", "0"], r"repetition_penalty \(0\) must be above 0"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(more, message, base, tmp_path):
    with pytest.raises(MgenError, match=message) as caught:
        generate.main(words(base, tmp_path / "out", *more))
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_judges_by_name_are_a_weighted_sum(critic, excerpts, remi, tmp_path):
    bands = fit_bands(excerpts)
    save_bands(bands, tmp_path / "bands.json")
    judges = judges_of_options(
        ["grammar=0.25", "longest_run=2", "style=1"], JUDGES, remi, str(critic), str(tmp_path / "bands.json")
    )
    right = 0.25 * REWARDS["grammar"](bands)(excerpts).score + 2.0 * REWARDS["longest_run"](bands)(excerpts).score
    right = right + StyleCritic.from_pretrained(critic, remi, scale="log_odds")(excerpts).score
    np.testing.assert_allclose(judges(excerpts), right, rtol=1e-5)
    assert judges.description == "0.25 grammar + 2 longest_run + 1 style"


@pytest.fixture
def run_folder(base, critic, excerpts, tmp_path):
    """What a run of `mgen finetune` leaves, as far as its judges are concerned."""
    config = {"judges": ["longest_run=1", "style=1", "realism=0.5"], "critic": str(critic), "bands": ""}
    config |= {"realism_clip": 10.0}
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "policy": str(base)}))
    save_bands(fit_bands(excerpts), folder / "bands.json")
    return folder


def test_judges_of_a_run(run_folder, base, critic, excerpts, remi):
    without = judges_of_run(run_folder, JUDGES, remi)
    assert (
        list(without.judges) == ["longest_run", "style"]
        and "realism is left out: no complete checkpoint" in without.description
    )
    learned = {}
    for step in (5, 10):
        discriminator = FeatureDiscriminator(FeatureDiscriminatorOptions(min_notes=16))
        discriminator.calibration = Calibration(1.0, 0.1 * step)  # unfitted, with a bias alone
        folder = run_folder / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        torch.save({"realism": discriminator.state_dict(), "batches": 0}, folder / "discriminator.pt")
        for name in ("trainer_state.json", "model.safetensors", "optimizer.pt"):
            (folder / name).touch()
        write_manifest(folder)
        learned[step] = discriminator
    (run_folder / "checkpoints" / "checkpoint-12").mkdir()  # cut off: does not count, and is left alone
    judges = judges_of_run(run_folder, JUDGES, remi)
    assert "the discriminator is that of step 10" in judges.description
    right = without(excerpts) + 0.5 * learned[10](excerpts).score
    np.testing.assert_allclose(judges(excerpts), right, rtol=1e-4)
    assert (run_folder / "checkpoints" / "checkpoint-12").is_dir()


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "config.yaml").unlink(), "expected a run of mgen finetune"),
        (lambda folder: (folder / "config.yaml").write_text("- 1"), "not of a run of mgen finetune"),
        (lambda folder: (folder / "config.yaml").write_text("a: [1"), "cannot be read"),
        (lambda folder: (folder / "bands.json").unlink(), "measure the bands again"),
    ],
)
def test_a_run_without_its_judges_is_one_line(break_it, message, run_folder, remi):
    break_it(run_folder)
    with pytest.raises(MgenError, match=message):
        judges_of_run(run_folder, JUDGES, remi)


def test_pretraining_goes_on_from_a_policy_on_one_style(base, small_corpus, tmp_path):
    """The low-cost baseline trained on jazz: weights start from the policy's, and only jazz is counted."""
    corpus = Corpus.open(small_corpus)
    more = ["--corpus", str(small_corpus), "--init", str(base), "--style", "jazz", "--context", "128"]
    more += ["--max_steps", "2", "--eval_steps", "2", "--valid_windows", "16", "--per_device_train_batch_size", "64"]
    assert pretrain.main([*more, "--out", str(tmp_path / "run"), "--learning_rate", "0", *QUIET]) == 0
    before, after = (load_policy(folder)[0].state_dict() for folder in (base, tmp_path / "run" / "model"))
    assert all(torch.equal(before[name], after[name]) for name in before)  # a rate of 0: the policy's own weights
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    jazz = np.diff(corpus.table("train", "jazz").offsets)
    assert facts["epochs"] == round(128 / np.ceil(jazz / 126).sum(), 2)
    assert pretrain.main([*more, "--out", str(tmp_path / "moved"), *QUIET]) == 0
    moved = load_policy(tmp_path / "moved" / "model")[0].state_dict()
    assert any(not torch.equal(before[name], moved[name]) for name in before)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--style", "polka"], "style 'polka': the corpus has jazz, other"),
        (["--context", "512"], r"context \(512\) does not fit that of --init .*; give at most 256"),
        (["--style", "jazz", "--streaming", "true"], "cannot be streamed"),
    ],
)
def test_mistakes_in_going_on_are_one_line(more, message, base, small_corpus, tmp_path):
    options = ["--corpus", str(small_corpus), "--init", str(base), "--context", "128", "--out", str(tmp_path / "run")]
    with pytest.raises(MgenError, match=message):
        pretrain.main([*options, *QUIET, *more])
