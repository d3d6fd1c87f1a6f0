import subprocess
import sys
import textwrap

import pytest
from hub_server import TOKEN, hub_server
from huggingface_hub import close_session, constants

from mgen.errors import MgenError
from mgen.hub.upload import check_repo, upload_folder

pytestmark = pytest.mark.slow

FILES = {
    "README.md": b"---\nlibrary_name: transformers\n---\n\n# jazz\n",
    "config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 4096,
    "samples/01_before.ogg": b"OggS" * 100,
    ".eval_results/mgen_transfer.yaml": b"- value: 1\n",
}


@pytest.fixture
def hub(monkeypatch):
    """A Hub, and a client that may speak to it and does not wait between attempts."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the server has no Xet storage
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with hub_server() as server:
        yield server
        close_session()


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        (tmp_path / "f" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "f" / name).write_bytes(content)
    return tmp_path / "f"


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pushed(hub, repo="ada/jazz", branch="main"):
    return {name: data for name, data in hub.repos[repo][branch].items() if name != ".gitattributes"}


def test_what_lies_there_is_the_folder_byte_for_byte(hub, folder):
    url, commit_url = upload_folder(folder, "ada/jazz", "first", private=True, endpoint=hub.url)
    assert pushed(hub) == content(folder) == FILES
    assert hub.visibility["ada/jazz"] == "private"
    assert [commit[:3] for commit in hub.commits] == [("ada/jazz", "main", "first")]
    assert url == f"{hub.url}/ada/jazz" and commit_url.startswith(f"{hub.url}/ada/jazz/commit/")
    assert "POST /api/validate-yaml" in hub.requests  # the card was looked at before anything was sent


def test_a_second_push_updates_and_clears_away_what_is_stale(hub, folder):
    upload_folder(folder, "ada/jazz", "first", endpoint=hub.url)
    hub.repos["ada/jazz"]["main"]["mine.txt"] = b"of somebody else"
    hub.repos["ada/jazz"]["main"][".eval_results/hle.yaml"] = b"of somebody else"
    (folder / "samples" / "01_before.ogg").unlink()
    (folder / "samples" / "02_before.ogg").write_bytes(b"OggS" * 50)
    (folder / "config.json").write_bytes(b'{"a": 1}')
    hub.requests.clear()
    upload_folder(folder, "ada/jazz", "second", endpoint=hub.url)
    others = {"mine.txt": b"of somebody else", ".eval_results/hle.yaml": b"of somebody else"}
    assert pushed(hub) == content(folder) | others
    assert hub.commits[1][2:] == ("second", ["config.json", "samples/02_before.ogg"], ["samples/01_before.ogg"])
    assert len([line for line in hub.requests if line.startswith("PUT /lfs/")]) == 1  # the weights were there already


def test_the_same_again_changes_nothing(hub, folder):
    first = upload_folder(folder, "ada/jazz", "first", endpoint=hub.url)
    second = upload_folder(folder, "ada/jazz", "again", endpoint=hub.url)
    assert len(hub.commits) == 1 and first == second


def test_another_branch(hub, folder):
    upload_folder(folder, "ada/jazz", "first", revision="trial/2", endpoint=hub.url)
    assert pushed(hub, branch="trial/2") == FILES and pushed(hub) == {}
    upload_folder(folder, "ada/jazz", "again", revision="trial/2", endpoint=hub.url)


def refused(folder, said, repo="ada/jazz", **words):
    before = content(folder)
    with pytest.raises(MgenError) as caught:
        upload_folder(folder, repo, "x", **words)
    assert said in str(caught.value) and "\n" not in str(caught.value), caught.value
    assert TOKEN not in str(caught.value)
    assert content(folder) == before
    return str(caught.value)


def test_a_refused_token_is_one_line(hub, folder):
    line = refused(folder, "the Hub refused the token (401); run hf auth login", endpoint=hub.url, token="hf_wrong")
    assert line.startswith("ada/jazz: ") and "give the command again" in line
    assert hub.repos == {}


def test_no_token_is_one_line(hub, folder, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    refused(folder, "needs a token that may write: run hf auth login, or set HF_TOKEN", endpoint=hub.url)
    assert hub.requests == []


def test_no_right_to_make_the_repository_is_one_line(hub, folder):
    refused(folder, "no right to write there (403); use one that may write to grace", "grace/jazz", endpoint=hub.url)


@pytest.mark.parametrize(
    ("where", "status", "said"),
    [
        (("POST", "/commit/"), 403, "no right to write there (403)"),
        (("POST", "/preupload/"), 403, "no right to write there (403)"),
        (("POST", "/objects/batch"), 403, "no right to write there (403)"),
        (("PUT", "/lfs/"), 403, "no right to write there (403)"),
        (("POST", "/commit/"), 413, "the Hub answered 413"),
        (("POST", "/preupload/"), 503, "the Hub answered 503"),
        (("POST", "/create"), 429, "the Hub asks to wait (429)"),
        (("GET", "/tree/"), 404, "not found on the Hub (404)"),
    ],
)
def test_a_refusal_on_the_way_is_one_line(where, status, said, hub, folder):
    hub.answers[where] = status
    refused(folder, said, endpoint=hub.url)
    assert hub.commits == []
    hub.answers.clear()
    upload_folder(folder, "ada/jazz", "again", endpoint=hub.url)
    assert pushed(hub) == FILES


def test_a_server_that_dies_in_the_middle_leaves_the_folder_for_another_try(hub, folder):
    hub.dies_in = r"^/lfs/"
    line = refused(folder, "the upload was interrupted", endpoint=hub.url)
    assert f"{folder} is complete: give the command again" in line
    assert hub.commits == [] and any(line.startswith("PUT /lfs/") for line in hub.requests)
    hub.dies_in, hub.dead = None, False
    upload_folder(folder, "ada/jazz", "again", endpoint=hub.url)
    assert pushed(hub) == FILES


def test_the_clients_other_way_to_upload(hub, folder, monkeypatch):
    """With Xet, the client uploads and commits in a pipeline; here without large files, for want of a store."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    hub.lfs = False
    upload_folder(folder, "ada/jazz", "first", endpoint=hub.url)
    (folder / "samples" / "01_before.ogg").unlink()
    upload_folder(folder, "ada/jazz", "second", endpoint=hub.url)
    assert pushed(hub) == content(folder) and hub.commits[1][3:] == ([], ["samples/01_before.ogg"])
    hub.answers["POST", "/commit/"] = 403
    (folder / "config.json").write_bytes(b'{"b": 2}')
    refused(folder, "no right to write there (403)", endpoint=hub.url)


def test_a_card_that_the_hub_refuses_is_one_line(hub, folder):
    hub.metadata_errors = [{"message": '"license" must be one of [mit, ...]'}]
    refused(folder, '"license" must be one of', endpoint=hub.url)
    assert hub.commits == []


def test_nobody_there_is_one_line(hub, folder):
    refused(folder, "the upload was interrupted (ConnectError", endpoint="http://127.0.0.1:9")


def test_offline_is_one_line(hub, folder, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(folder, "HF_HUB_OFFLINE is set; unset it", endpoint=hub.url)


@pytest.mark.parametrize(
    "repo", ["jazz", "", "a/b/c", "ada/", "ada/ja zz", "ada/-jazz", "ada/jazz..2", "ada/" + "x" * 99]
)
def test_a_repo_is_user_and_name(repo):
    with pytest.raises(MgenError, match="REPO") as caught:
        check_repo(repo)
    assert "\n" not in str(caught.value)
    check_repo("ada/jazz_2.b")


def test_what_was_pushed_loads_from_the_hub_without_us(hub, tmp_path, tiny_policy, remi):
    """Another process, its cache empty, that knows the Hub's name of the model and nothing else."""
    tiny_policy(seed=3).save_pretrained(tmp_path / "model")
    remi.save_pretrained(tmp_path / "model")
    upload_folder(tmp_path / "model", "ada/jazz", "x", endpoint=hub.url)
    program = """
        import sys
        from transformers import AutoModelForCausalLM, AutoTokenizer
        model, tokenizer = AutoModelForCausalLM.from_pretrained("ada/jazz"), AutoTokenizer.from_pretrained("ada/jazz")
        assert "mgen" not in sys.modules
        print(f"{model.get_input_embeddings().weight.double().sum():.6f}", tokenizer.bos_token)
    """
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": TOKEN, "PATH": ""}
    command = [sys.executable, "-I", "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env=environment)
    assert done.returncode == 0, done.stderr
    weights = tiny_policy(seed=3).get_input_embeddings().weight.double().sum()
    assert done.stdout.split() == [f"{weights:.6f}", "BOS_None"]
