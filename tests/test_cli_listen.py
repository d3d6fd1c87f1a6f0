from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import uvicorn
from listen_server import Client

from mgen.cli import listen, votes
from mgen.cli.main import run
from mgen.corpus.clean import normalise
from mgen.corpus.demo import COLLECTIONS, compose
from mgen.errors import MgenError
from mgen.listen.serve import bind
from mgen.listen.vote_store import Vote, VoteStore
from mgen.sampling.samples import SamplePrompt, write_samples
from mgen.workflows.listen import ListenConfig, collect_clips, make_study, name_runs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
COLLECTION = next(iter(COLLECTIONS))


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory, remi):
    """Samples of an evaluation: four prompts, real music and two models that continue with other demo music."""
    folder = tmp_path_factory.mktemp("evaluation")
    music = [remi.encode(normalise(compose(COLLECTION, i), "piano"))[0].tolist() for i in range(6)]
    head = [remi.bos_id, remi.style_ids["jazz"]]
    named = [SamplePrompt(f"continuation/{i:04d}", "continuation", f"work {i}", head + music[i][:64]) for i in range(4)]
    parts = {"real": 0, "base": 1, "jazz": 2}
    completions = {system: [music[i + by][64:160] for i in range(4)] for system, by in parts.items()}
    write_samples(folder / "samples", "jazz", named, completions, remi)
    return folder


@pytest.fixture
def served(monkeypatch):
    """Lets `mgen listen` come as far as serving, and return: the addresses that it would have listened on."""
    seen = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: seen.append(sockets[0].getsockname()[0]))
    return seen


def start(*words, cwd):
    code = "from mgen.cli.main import run; from mgen.cli.listen import main; raise SystemExit(run(main))"
    command = [sys.executable, "-c", code, *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_a_whole_session(evaluation, tmp_path, remi, capsys):
    """From the command to the results and the preference pairs; Ctrl-C ends it, and no line is a traceback."""
    server = start(evaluation, "--port", "0", "--pairs", "4", "--seconds", "8", cwd=tmp_path)
    try:
        lines = [server.stdout.readline() for _ in range(3)]
        assert lines[0] == "4 pairs of real, base, jazz; votes go to votes.sqlite\n"
        port = int(re.fullmatch(r"listen on  http://127\.0\.0\.1:(\d+)/\n", lines[1]).group(1))
        ann = Client(port).enter("Ann")
        for i, choice in enumerate("abab"):
            pair = ann.get("/api/pair").json
            sounds = [ann.get(f"/api/sound/{pair[side]}") for side in "ab"]
            assert len(sounds[0].body) == len(sounds[1].body) == pytest.approx(44100 * pair["seconds"], abs=100)
            assert 0 < pair["prompt_seconds"] < pair["seconds"] <= pair["prompt_seconds"] + 8
            vote = {"id": f"vote000{i}", "place": i, "choice": choice, "seconds_a": 5, "seconds_b": 5}
            assert ann.post("/api/vote", vote).json["done"] == i + 1
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=20)
    finally:
        server.kill()
        server.communicate()
    assert server.returncode == 0 and err == ""
    assert out.splitlines()[-1] == "votes.sqlite: 4 votes of 1 raters; see them with: mgen votes votes.sqlite"
    file, pairs = tmp_path / "votes.sqlite", tmp_path / "pairs.jsonl"
    assert votes.main([str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["votes"], found["raters"], found["pieces"]) == (4, 1, 4)
    assert found["a_share"]["value"] == 0.5 and found["question"] == "Which do you like better?"
    assert votes.main([str(file), "--export", str(pairs)]) == 0
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    assert len(rows) == 4
    index = json.loads((evaluation / "samples" / "index.json").read_text())["items"]
    tokenizer = remi.tokenizer()
    for row in rows:
        assert row["rater"] == "Ann" and {row["chosen_system"], row["rejected_system"]} < {"real", "base", "jazz"}
        ids = {
            name: tokenizer(row[name], add_special_tokens=False)["input_ids"]
            for name in ("prompt", "chosen", "rejected")
        }
        items = {item["system"]: item for item in index if item["prompt_ids"] == ids["prompt"]}
        assert ids["chosen"] == items[row["chosen_system"]]["completion_ids"]
        assert ids["rejected"] == items[row["rejected_system"]]["completion_ids"]


def test_the_same_command_goes_on_and_another_study_is_refused(evaluation, tmp_path, served, capsys):
    words = [str(evaluation), "--out", str(tmp_path / "v.sqlite"), "--port", "0"]
    assert listen.main(words) == 0
    store = VoteStore.read(tmp_path / "v.sqlite")
    store.close()
    assert "12 pairs of real, base, jazz" in capsys.readouterr().out
    assert listen.main(words) == 0
    for more in (["--systems", "real", "jazz"], ["--seconds", "9"], ["--seed", "1"], ["--question", "Which swings?"]):
        assert run(listen.main, [*words, *more]) == 2
        assert "another study" in capsys.readouterr().err


def test_models_and_real_music_continue_the_same_prompts(small_corpus, tiny_policy, remi, tmp_path, served, capsys):
    for seed, name in enumerate(("one", "two")):
        tiny_policy(seed).save_pretrained(tmp_path / name / "model")
        remi.save_pretrained(tmp_path / name / "model")
    words = [str(tmp_path / "one"), f"second={tmp_path / 'two' / 'model'}", "--out", str(tmp_path / "v.sqlite")]
    more = ["--port", "0", "--pairs", "6", "--completion_tokens", "48"]
    assert run(listen.main, words + more) == 2
    assert "one, second: models, which need prompts; give --corpus" in capsys.readouterr().err
    more += ["--corpus", str(small_corpus)]
    assert listen.main(words + more) == 0
    assert "6 pairs of real, one, second" in capsys.readouterr().out
    index = json.loads((tmp_path / "v.samples" / "index.json").read_text())
    by_prompt = {}
    for item in index["items"]:
        by_prompt.setdefault(item["prompt"], {})[item["system"]] = item
    assert len(by_prompt) == 6
    for systems in by_prompt.values():
        assert list(systems) == ["real", "one", "second"]
        assert len({tuple(item["prompt_ids"]) for item in systems.values()}) == 1
    before = (tmp_path / "v.samples" / "index.json").stat().st_mtime_ns
    assert listen.main(words + more) == 0  # the same samples, not drawn again
    assert (tmp_path / "v.samples" / "index.json").stat().st_mtime_ns == before
    assert run(listen.main, [*words, *more, "--seed", "5"]) == 2
    assert "other models or options" in capsys.readouterr().err
    store = VoteStore.open(tmp_path / "v.sqlite", make_study(*clips_of(words, more), config_of(words, more))[0])
    store.vote(Vote("vote0000", store.rater("Ann"), 0, "a"))
    store.close()
    assert votes.main([str(tmp_path / "v.sqlite"), "--export", str(tmp_path / "p.jsonl")]) == 0
    assert json.loads((tmp_path / "p.jsonl").read_text())["prompt"].startswith("BOS_NoneJAZZ_None")


def config_of(words, more):
    options = dict(zip(more[::2], more[1::2], strict=True))
    return ListenConfig(
        corpus=options["--corpus"], pairs=int(options["--pairs"]), out=words[-1],
        completion_tokens=int(options["--completion_tokens"]),
    )  # fmt: skip


def clips_of(words, more):
    return collect_clips(name_runs(words[:2]), config_of(words, more), print)


def test_folders_of_files(tmp_path, served, capsys):
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
        for i in range(3):
            compose(COLLECTION, i + 3 * (name == "mine")).dump_midi(tmp_path / name / f"{i}.mid")
    words = [str(tmp_path / "mine"), str(tmp_path / "theirs"), "--out", str(tmp_path / "v.sqlite"), "--port", "0"]
    assert listen.main(words) == 0
    assert "3 pairs of mine, theirs" in capsys.readouterr().out
    (tmp_path / "mine" / "1.mid").write_bytes(b"MThd")
    assert run(listen.main, words) == 2
    assert "1.mid: broken" in capsys.readouterr().err


def test_another_host_means_a_token(evaluation, tmp_path, served, capsys):
    words = [str(evaluation), "--out", str(tmp_path / "v.sqlite"), "--port", "0"]
    assert listen.main([*words, "--host", "0.0.0.0"]) == 0
    out = capsys.readouterr().out
    token = re.search(r"^token      (\S{22})$", out, re.M).group(1)
    assert f"/#token={token}\n" in out
    assert listen.main([*words, "--host", "0.0.0.0"]) == 0
    assert token not in capsys.readouterr().out
    assert listen.main([*words, "--token", "my own tökén"]) == 0
    out = capsys.readouterr().out
    assert "token      my own tökén\n" in out and "/#token=my%20own%20t%C3%B6k%C3%A9n\n" in out
    assert listen.main(words) == 0
    assert "token" not in capsys.readouterr().out
    assert served == ["0.0.0.0", "0.0.0.0", "127.0.0.1", "127.0.0.1"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "RUN"),
        (["{tmp}/none"], "no such folder"),
        (["{tmp}/empty"], "no music to read"),
        (["{evaluation}", "--systems", "real"], "two or more systems to compare, found real"),
        (["{evaluation}", "--systems", "real", "nobody"], "expected some of real, base, jazz"),
        (["{evaluation}", "{evaluation}"], "is taken"),
        (["{evaluation}", "--pairs", "0"], "pairs (0)"),
        (["{evaluation}", "--seconds", "1"], "seconds (1)"),
        (["{evaluation}", "--port", "70000"], "port (70000)"),
        (["{evaluation}", "--token", "short"], "at least 8"),
        (["{evaluation}", "--host", "no.such.host.invalid"], "--host no.such.host.invalid"),
        (["{evaluation}", "--out", "{tmp}/noise"], "not a votes file"),
        (["{evaluation}", "--out", "{tmp}/no/folder/v.sqlite"], "cannot be opened or written"),
        (["{evaluation}", "--pair", "3"], "did you mean 'pairs'?"),
    ],
)
def test_bad_input_is_one_line(evaluation, tmp_path, served, capsys, words, says):
    (tmp_path / "empty").mkdir()
    (tmp_path / "noise").write_bytes(b"noise" * 1000)
    words = [word.format(evaluation=evaluation, tmp=tmp_path) for word in words]
    if "--port" not in words:
        words += ["--port", "0"]
    if "--out" not in words:
        words += ["--out", str(tmp_path / "v.sqlite")]
    assert run(listen.main, words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("mgen: ") and says in line
    assert served == []


def test_a_busy_port_is_an_error_before_the_work():
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(MgenError, match=f"--port {port}: cannot listen on 127.0.0.1"):
            bind("127.0.0.1", port)


def test_votes_of_nothing(evaluation, tmp_path, served, capsys):
    assert run(votes.main, [str(tmp_path / "none")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert listen.main([str(evaluation), "--out", str(tmp_path / "v.sqlite"), "--port", "0"]) == 0
    assert run(votes.main, [str(tmp_path / "v.sqlite")]) == 2
    assert "holds no vote yet" in capsys.readouterr().err


def test_votes_as_tables(evaluation, tmp_path, capsys):
    config = ListenConfig(out=str(tmp_path / "v.sqlite"), question="[bold]Which?[/]")
    clip_files, names = collect_clips({"run": evaluation}, config, print)
    assert names[0] == "PAD_None"
    study, _ = make_study(clip_files, None, config)
    store = VoteStore.open(config.out, study)
    rater = store.rater("[red]Ann[/]")
    for trial in store.trials(rater):
        store.vote(
            Vote(
                f"vote{trial.place:04d}",
                rater,
                trial.place,
                ("a", "b", "tie")[trial.place % 3],
                5,
                5 * (trial.place > 0),
            )
        )
    store.close()
    assert votes.main([config.out]) == 0
    out = capsys.readouterr().out
    assert "[bold]Which?[/]  12 votes of 1 raters on 4 pieces" in out
    for words in ("Bradley-Terry", "share of first", "early votes: 1, given before", "one rater only"):
        assert words in out
    assert run(votes.main, [config.out, "--export", str(tmp_path / "p.jsonl")]) == 2
    assert "give --tokenizer" in capsys.readouterr().err and not (tmp_path / "p.jsonl").exists()
