import json

import pytest
from hub_runs import critic_run, evaluation, feature_critic_run, policy_run
from hub_server import TOKEN, hub_server
from huggingface_hub import ModelCard, close_session, constants

from mgen.cli.main import run as command
from mgen.cli.push import main, positionals_first

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_policy, remi):
    """A tuned policy, a critic, and an evaluation with the policy in it as `jazz`."""
    folder = tmp_path_factory.mktemp("runs")
    policy_run(folder / "jazz", tiny_policy(max_position_embeddings=96), remi)
    policy_run(folder / "jazz_nats", tiny_policy(max_position_embeddings=96), remi)
    critic_run(folder / "critic", remi)
    feature_critic_run(folder / "features")
    evaluation(folder / "evaluation", remi)
    return folder


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with hub_server() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        yield server
        close_session()


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_dry_run_makes_the_folder_and_speaks_to_nobody(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    words = [str(runs / "jazz"), "ada/jazz", "--evaluation", str(runs / "evaluation"), "--license", "cc-by-4.0"]
    assert command(main, [*words, "--dry-run", str(tmp_path / "out")]) == 0
    assert "nothing was pushed" in capsys.readouterr().out
    assert (tmp_path / "out" / "samples" / "02_this_model.ogg").is_file()
    assert not (runs / "jazz" / "hub").exists()


def test_without_repo_the_card_takes_the_runs_name(runs, tmp_path, capsys):
    words = [str(runs / "jazz_nats"), "--dry_run", str(tmp_path / "out"), "--samples", "0"]
    assert command(main, words) == 0
    said = capsys.readouterr().out
    assert "the card calls it your-name/jazz-nats: give REPO for its real name" in said
    assert "no licence was stated" in said and "the card has no numbers" in said
    assert 'snapshot_download("your-name/jazz-nats")' in (tmp_path / "out" / "README.md").read_text()


def test_a_push_and_another_one(runs, hub, capsys):
    words = [str(runs / "jazz"), "ada/jazz", "--evaluation", str(runs / "evaluation"), "--license", "mit", "--json"]
    assert command(main, words) == 0
    result = json.loads(capsys.readouterr().out)
    tree = {name: data for name, data in hub.repos["ada/jazz"]["main"].items() if name != ".gitattributes"}
    assert tree == content(runs / "jazz" / "hub") and sorted(tree) == result["files"]
    assert result["url"] == f"{hub.url}/ada/jazz" and result["folder"] == str(runs / "jazz" / "hub")
    assert hub.commits[0][2] == "jazz: mgen finetune" and hub.visibility["ada/jazz"] is None
    assert command(main, [*words[:-1], "--samples", "0", "--message", "without sound"]) == 0
    assert "pushed to http" in capsys.readouterr().out
    assert hub.commits[1][2] == "without sound" and len(hub.commits[1][4]) == 10  # five pieces, MIDI and sound
    assert not any(name.startswith("samples/") for name in hub.repos["ada/jazz"]["main"])


def test_a_critic_goes_too(runs, hub):
    assert command(main, [str(runs / "critic"), "--private", "ada/critic"]) == 0
    assert hub.visibility["ada/critic"] == "private"
    assert "critic.json" in hub.repos["ada/critic"]["main"]


def test_a_feature_critic_leaves_nothing_of_an_earlier_stock_model(runs, hub):
    """With the config.json of another push still there, stock classes would load something else, or half of it."""
    assert command(main, [str(runs / "critic"), "ada/changed"]) == 0
    assert "config.json" in hub.repos["ada/changed"]["main"]
    assert command(main, [str(runs / "features"), "ada/changed"]) == 0
    there = {name: data for name, data in hub.repos["ada/changed"]["main"].items() if name != ".gitattributes"}
    assert there == content(runs / "features" / "hub")


def test_a_push_that_failed_is_exit_code_2_and_can_be_tried_again(runs, hub, capsys):
    hub.answers["POST", "/commit/"] = 403
    words = [str(runs / "jazz"), "ada/again", "--samples", "0"]
    assert command(main, words) == 2
    said = capsys.readouterr().err
    assert said.startswith("mgen: ada/again: the token has no right") and said.count("\n") == 1
    assert (runs / "jazz" / "hub" / "model.safetensors").is_file()
    hub.answers.clear()
    assert command(main, words) == 0


def test_the_row_of_the_evaluation_may_be_called_otherwise(runs, tmp_path, capsys):
    words = [str(runs / "jazz_nats"), "ada/jazz", "--evaluation", str(runs / "evaluation"), "--samples", "1"]
    assert command(main, [*words, "--dry-run", str(tmp_path / "a")]) == 2
    said = capsys.readouterr().err
    assert "no row is called 'jazz_nats'; it has base, jazz; did you mean --name jazz?" in said
    assert not (tmp_path / "a").exists()
    assert command(main, [*words, "--name", "jazz", "--dry-run", str(tmp_path / "a")]) == 0


def test_a_licence_without_a_name_on_the_hub_is_other(runs, tmp_path, capsys):
    words = [str(runs / "critic"), "ada/c", "--license", "apache2", "--license-link", "https://example.org/l"]
    assert command(main, [*words, "--dry-run", str(tmp_path / "out")]) == 0
    assert "--license apache2: not an identifier of the Hub; written as 'other'. Did you mean apache-2.0?" in (
        capsys.readouterr().out
    )
    data = ModelCard.load(tmp_path / "out" / "README.md").data
    assert (data.license, data.license_name, data.license_link) == ("other", "apache2", "https://example.org/l")


def test_what_the_user_states_is_in_the_metadata(runs, tmp_path):
    words = [str(runs / "jazz"), "ada/jazz", "--samples", "0", "--base_model", "ada/base", "--datasets", "ada/solos"]
    words += ["--eval_dataset", "ada/bench", "--evaluation", str(runs / "evaluation"), "--dry-run", str(tmp_path / "o")]
    assert command(main, words) == 0
    data = ModelCard.load(tmp_path / "o" / "README.md").data
    assert (data.base_model, data.datasets, data.base_model_relation) == ("ada/base", ["ada/solos"], "finetune")
    assert {result.dataset_type for result in data.eval_results} == {"ada/bench"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: RUN"),
        (["{runs}/jazz"], "expected REPO (user/name) after RUN, got none"),
        (["{runs}/jazz", "jazz"], "REPO 'jazz': expected user/name, such as ada/music-model"),
        (["{runs}/none", "ada/jazz"], "expected a run of mgen (run.json), found none"),
        (["{runs}/jazz/model", "ada/jazz"], "is a run's model; give the run itself"),
        (["{runs}/features/model", "ada/features"], "is a run's model; give the run itself"),
        (["{runs}/critic", "ada/c", "--evaluation", "{runs}/evaluation"], "evaluated by its own card"),
        (
            ["{runs}/jazz", "ada/jazz", "--evaluation", "{runs}/jazz"],
            "found no metrics.json; give the --out",
        ),
        (
            ["{runs}/jazz", "ada/jazz", "--corpus", "{runs}"],
            "found nothing; give the training corpus",
        ),
        (["{runs}/jazz", "ada/jazz", "--dry-run", "{runs}"], "not empty; choose another folder"),
        (["{runs}/jazz", "ada/jazz", "--licence", "mit"], "did you mean 'license'?"),
        (["{runs}/jazz", "ada/jazz", "--samples", "-1"], "must be at least 0"),
        (["{runs}/jazz", "ada/jazz", "--base_model", "/tmp/base"], "base_model '/tmp/base': expected a Hub id"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(words, said, runs, capsys):
    before = content(runs)
    assert command(main, [word.format(runs=runs) for word in words]) == 2
    line = capsys.readouterr().err
    assert said in line and line.startswith("mgen: ") and line.count("\n") == 1
    assert content(runs) == before


@pytest.mark.parametrize(
    ("words", "sorted_words"),
    [
        ("R --dry-run D u/n", "R u/n --dry-run D"),
        ("--private R/x u/n --json", "R/x u/n --private --json"),
        ("--private no R u/n", "R u/n --private no"),
        ("R --license=mit u/n", "R u/n --license=mit"),
        ("R u/n --datasets a/b c --samples 2", "R u/n --datasets a/b c --samples 2"),
    ],
)
def test_run_and_repo_may_stand_anywhere(words, sorted_words):
    assert positionals_first(words.split()) == sorted_words.split()
