"""Sample MIDI files from a model, each with its sound (.ogg) and its piano-roll (.svg).

mgen generate --model runs/tuned/model --out pieces --n 8 --style jazz --prompt theme.mid --bars 16 --ending true
mgen generate --play
mgen generate --model runs/base/model --style jazz --best_of 8 --critic runs/critic/model
mgen generate --baseline runs/roll --out pieces --threshold 0.3

Without --model, the policy of `mgen demo` (or of `mgen demo --quick`, which takes a minute) writes jazz.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mgen.cli.options import Output, parse, print_result, to_stderr
from mgen.cli.progress import ProgressDisplay
from mgen.errors import MgenError
from mgen.render.audio import SAMPLE_RATE, wav
from mgen.render.player import play
from mgen.workflows.generate import GenerateConfig, GenerateResult, run_generate, sound_of


def main(argv: Sequence[str] | None = None) -> int:
    """Generate; returns the exit code, 0 also where the pieces cannot be played."""
    config, output = parse(argv, GenerateConfig, Output, doc=__doc__)
    with ProgressDisplay(output.json) as progress:
        result = run_generate(config, progress)
    print_result("\n".join(summary(result)), result.facts, output.json)
    if config.play:
        play_pieces(result)
    return 0


def summary(result: GenerateResult) -> list[str]:
    """What was written, a line each."""
    facts, lines = result.facts, []
    pieces = facts["pieces"]
    if "speed" in facts:
        lines += [f"{facts['model']}{', ' * bool(facts['style'])}{facts['style']}; {facts['speed']}"]
        form = "{notes} notes, {bars} bars, {end}, {broken_tokens} broken tokens"
    else:
        form = "{notes} notes, {steps} steps, {density:.1%} of cells sound"
    if result.prompt_changes:
        lines.append(f"{facts['prompt']}: {result.prompt_changes}")
    for piece in pieces:
        end = "ended" if piece.get("ended") else "no ending"
        lines.append(f"{result.folder / piece['file']}: {form.format(**piece, end=end)}")
    open_ended = sum(not piece.get("ended", True) for piece in pieces)
    if facts.get("asked", {}).get("ending") and open_ended:
        lines.append(
            f"{open_ended} of {len(pieces)} found no ending and stop at the length asked for; try another --seed"
        )
    if written := _also_written(pieces[0]):
        lines.append(f"next to each file: {written}")
    return lines


def _also_written(piece: dict[str, Any]) -> str:
    words = {"audio": "its sound (.ogg)", "picture": "its piano-roll (.svg)"}
    return " and ".join(word for name, word in words.items() if piece[name])


def play_pieces(result: GenerateResult) -> None:
    """Plays the pieces in turn; Ctrl-C ends it, and without a sound device a line says so."""
    try:
        for piece in result.facts["pieces"]:
            file = result.folder / piece["file"]
            sound = sound_of(file)
            to_stderr(f"playing {file}, {len(sound) / SAMPLE_RATE:.0f} s (Ctrl-C ends)")
            play(wav(sound), len(sound) / SAMPLE_RATE)
    except MgenError as error:
        to_stderr(f"not played: {error}; open {file.with_suffix('.ogg' if piece['audio'] else '.mid')}")
    except KeyboardInterrupt:
        to_stderr("")
