"""CLaMP's weights through the real loading code, with a tiny random model of the same architecture."""

from __future__ import annotations

import io

import mido
import numpy as np
import pytest
import safetensors.torch
import torch
from evaluation_pieces import demo, line, nothing, solos
from transformers import BertConfig, BertModel

from mgen.errors import MgenError
from mgen.models.clamp import TICKS, ClampEmbedder, messages, patches
from mgen.notes import Notes
from mgen.stats.set_metrics import set_metrics

SIZE, WIDTH, SPACE, CONTEXT = 64, 64, 24, 32


class Published(torch.nn.Module):
    """The symbolic tower as its authors lay it out: names of tensors, padding with a mask, mean, projection."""

    def __init__(self, names: tuple[str, str | None]) -> None:
        super().__init__()
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=1,
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=WIDTH // 64,
            intermediate_size=4 * WIDTH,
            max_position_embeddings=CONTEXT,
        )
        tower = torch.nn.Module()
        tower.patch_embedding = torch.nn.Linear(SIZE * 128, WIDTH)
        tower.base = BertModel(config)
        self.add_module(names[0], tower)
        self.tower, self.proj = [tower], [None]
        if names[1]:
            projection = torch.nn.Linear(WIDTH, SPACE)
            self.add_module(names[1], projection)
            self.proj = [projection]
        self.text_proj = torch.nn.Linear(3, SPACE)  # another tower, which is not read
        self.eval()

    @torch.no_grad()
    def embed(self, ids: np.ndarray) -> np.ndarray:
        (tower,), (projection,) = self.tower, self.proj
        padded = np.zeros((CONTEXT, SIZE), np.int64)
        padded[: len(ids)] = ids
        mask = torch.arange(CONTEXT)[None] < len(ids)
        hot = torch.nn.functional.one_hot(torch.from_numpy(padded), 128).reshape(1, CONTEXT, -1).float()
        hidden = tower.base(inputs_embeds=tower.patch_embedding(hot), attention_mask=mask.float())[0]
        pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return (projection(pooled) if projection else pooled)[0].numpy()


NAMES = {
    "weights_clamp3_c2.pth": ("symbolic_model", "symbolic_proj"),
    "weights_clamp2.pth": ("music_model", "music_proj"),
    "weights_m3.pth": ("encoder", None),
}


def published(folder, file="weights_clamp3_c2.pth"):
    model = Published(NAMES[file])
    torch.save({"model": model.state_dict(), "epoch": 3, "min_eval_loss": 0.5}, folder / file)
    return model


def short(notes: Notes) -> Notes:
    return notes.select(notes.onset < 100)


@pytest.mark.parametrize("file", NAMES)
def test_embeddings_are_those_of_the_published_layout(file, tmp_path):
    model = published(tmp_path, file)
    embedder = ClampEmbedder.load(tmp_path / file)
    notes = short(solos(3))
    found = embedder(notes)
    expected = [model.embed(patches(messages(notes, i), SIZE)) for i in range(3)]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.shape == (3, WIDTH if file == "weights_m3.pth" else SPACE)


def test_long_pieces_are_embedded_in_parts(tmp_path):
    model = published(tmp_path)
    notes = solos(1)
    ids = patches(messages(notes, 0), SIZE)
    whole, rest = divmod(len(ids), CONTEXT)
    assert whole >= 2 and rest
    parts = [model.embed(ids[i * CONTEXT :][:CONTEXT]) for i in range(whole)] + [model.embed(ids[-CONTEXT:])]
    expected = np.average(parts, axis=0, weights=[CONTEXT] * whole + [rest])
    np.testing.assert_allclose(ClampEmbedder.load(tmp_path)(notes)[0], expected, atol=1e-5)


def test_safetensors_hold_the_same(tmp_path):
    model = published(tmp_path)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "clamp.safetensors")
    notes = short(solos(2))
    both = [ClampEmbedder.load(tmp_path / name)(notes) for name in ("clamp.safetensors", "weights_clamp3_c2.pth")]
    np.testing.assert_array_equal(*both)
    with pytest.raises(MgenError, match="a folder with exactly one, found 2"):
        ClampEmbedder.load(tmp_path)


def test_it_is_a_space_for_sets(tmp_path):
    published(tmp_path)
    cells = set_metrics(short(solos(12)), short(solos(12, seed=1)), embedders={"clamp": ClampEmbedder.load(tmp_path)})
    assert np.isfinite(cells["frechet_clamp"].value)
    silent = ClampEmbedder.load(tmp_path)(Notes.concat([line([60]), nothing()]))
    assert np.isfinite(silent[0]).all() and np.isnan(silent[1]).all()


# ------------------------------------------------------------- text


@pytest.mark.parametrize("collection", ["lead_sheets", "pop_band"])
def test_the_text_is_what_mido_reads_from_the_midi_file(collection):
    notes = demo(collection, works=1)
    score = notes.to_score(0).resample(TICKS, 1)
    file = mido.MidiFile(file=io.BytesIO(score.dumps_midi()))
    theirs, now = [], 0
    for message in file.merged_track:
        now += message.time
        if message.type not in {"track_name", "end_of_track"}:
            values = [value for key, value in message.dict().items() if key not in {"type", "time", "channel"}]
            theirs.append((now, message.type, *values))
    ours, now = [], 0
    lines = messages(notes, 0)
    assert lines[0] == "ticks_per_beat 480" and lines[-1].startswith("end_of_track ")
    for text in lines[1:-1]:
        kind, *values = text.split(" ")
        numbers = [int(value) for value in values]
        meta = kind in {"set_tempo", "time_signature"}
        now += numbers.pop() if meta else numbers.pop(0)
        ours.append((now, kind, *(numbers if meta else numbers[1:])))
    assert sorted(ours) == sorted(theirs)


def test_messages_of_one_type_share_a_patch_as_far_as_they_fit():
    lines = ["ticks_per_beat 480", *(f"note_on 0 0 {pitch} 64" for pitch in range(60, 67)), "note_off 480 0 60 64"]
    texts = ["".join(chr(code) for code in row if code > 2) for row in patches([*lines, "end_of_track 0"], 32)]
    assert texts == [
        "",
        "ticks_per_beat 480\n",
        "note_on 0 0 60 64\t0 0 61 64\n",
        "note_on 0 0 62 64\t0 0 63 64\n",
        "note_on 0 0 64 64\t0 0 65 64\n",
        "note_on 0 0 66 64\n",
        "note_off 480 0 60 64\n",
        "end_of_track 0",
        "",
    ]
    ids = patches(lines, 32)
    assert (ids[0] == 1).all() and ids[-1].tolist() == [1] + [2] * 31
    assert ids[1, 0] == 1 and ids[1, 20] == 2 and not ids[1, 21:].any()
    assert (patches(lines, 16)[:, 0] == 1).all() and patches(lines, 16).shape[1] == 16  # cut, as theirs are


# ------------------------------------------------------------- bad input


def test_what_is_no_clamp_says_so(tmp_path):
    with pytest.raises(MgenError, match="or a folder with exactly one, found 0"):
        ClampEmbedder.load(tmp_path)
    with pytest.raises(MgenError, match="found 0"):
        ClampEmbedder.load(tmp_path / "nowhere")
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    with pytest.raises(MgenError, match=r"cannot be read .*download it again"):
        ClampEmbedder.load(tmp_path / "broken.pth")
    torch.save({"model": {"text_proj.weight": torch.zeros(2, 2)}}, tmp_path / "text.pth")
    with pytest.raises(MgenError, match=r"expected tensors symbolic_model\.\*.*found text_proj\.weight"):
        ClampEmbedder.load(tmp_path / "text.pth")
    state = published(tmp_path).state_dict()
    del state["symbolic_model.base.encoder.layer.1.output.dense.weight"]
    torch.save({"model": state}, tmp_path / "half.pth")
    with pytest.raises(MgenError, match="another architecture"):
        ClampEmbedder.load(tmp_path / "half.pth")


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Sneaky:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"model": Sneaky()}, tmp_path / "sneaky.pth")
    with pytest.raises(MgenError, match=r"cannot be read .*download it again"):
        ClampEmbedder.load(tmp_path / "sneaky.pth")
