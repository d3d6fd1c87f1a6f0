"""Makes the picture and the sounds of README from a finished `mgen demo`: one prompt, continued before and after.

    python docs/before_after.py runs/demo

The prompt is the beginning of the first piece of other music in the split test; nothing is selected by ear.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from mgen.corpus.shards import Corpus
from mgen.models.transformer import context_length, load_policy
from mgen.notes import Notes
from mgen.render.audio import ogg, synthesise
from mgen.render.pianoroll_image import pianoroll_image
from mgen.sampling.decoding import Decoding
from mgen.sampling.grammar import GrammarMask
from mgen.sampling.rollout import sample

TITLES = {"base": "before: pretrained", "tuned": "after: fine-tuned by reinforcement learning"}
PROMPT, TEMPO, SEED = 24, 140, 0  # tokens, quarters per minute, of the samples
WIDTH, HEIGHT, TITLE = 1000, 230, 28  # pixels, of one piano-roll and of the line above it


def main() -> None:
    """Samples, draws, renders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="folder of a finished mgen demo")
    demo = parser.parse_args().demo
    corpus = Corpus.open(demo / "corpus")
    remi, docs = corpus.remi, Path(__file__).parent
    theme = remi.beginning(corpus.table("test", "other")[0].astype(np.int64), PROMPT)
    prompt = [remi.bos_id, remi.style_ids["jazz"], *theme.tolist()]
    end = int(Notes.from_ids([prompt], remi).onset.max()) + 1
    picture = Image.new("RGB", (WIDTH, len(TITLES) * (TITLE + HEIGHT)), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(16)
    for row, (name, title) in enumerate(TITLES.items()):
        model, _ = load_policy(str(demo / name / "model"))
        length = context_length(model.config) - len(prompt)
        generator = torch.Generator().manual_seed(SEED)
        grammar = GrammarMask(remi)
        drawn = sample(
            model, [prompt], Decoding(max_new_tokens=length), remi.eos_id, remi.pad_id, generator, grammar=grammar
        )
        notes = Notes.from_ids([[*prompt, *drawn.token_ids[0][drawn.mask[0]].tolist()]], remi)
        top = row * (TITLE + HEIGHT)
        draw.text((12, top + 5), title, "black", font)
        picture.paste(Image.fromarray(pianoroll_image(notes, 0, end, WIDTH, HEIGHT)), (0, top + TITLE))
        word = title.split(":")[0]
        (docs / f"{word}.ogg").write_bytes(ogg(synthesise(notes.to_score(0, TEMPO))))
    picture.save(docs / "before_after.png", optimize=True)


if __name__ == "__main__":
    main()
