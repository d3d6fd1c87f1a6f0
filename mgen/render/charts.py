"""Charts as inline SVG: curves over training, distributions compared with real music, and whiskers of a table.

A drawing carries classes; the page that shows it has the colours. None needs a script.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import escape
from numpy.typing import ArrayLike, NDArray

from mgen.errors import MgenError
from mgen.stats.intervals import Bounded, is_known

SERIES = 6  # colours; later series are dashed
INKS = ("#0b6e75", "#b4531f", "#6b4aa0", "#8a6d00", "#a8316e", "#55524b")  # of a chart in a file

_POINTS = 240  # of a curve; longer ones are averaged in equal bins
_BINS = 36  # of a distribution
_WIDTH, _LABELS = 420.0, 128.0  # of a distribution, and of the names in it
_LANE, _TALL = 34.0, 28.0  # a system's lane, and the tallest bar in it
_LONGEST = 18  # letters of a name next to a lane

Scale = Callable[[float], float]  # from a quantity to a position in the drawing


@dataclass(frozen=True, slots=True)
class Curve:
    """A chart of one quantity, over training or over another one; `series` maps a name to its steps and values."""

    title: str
    unit: str
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    across: str = "step"  # the quantity to the right
    logarithmic: bool = False  # whether the axis to the right is, with its ticks at the points; steps are above 0


@dataclass(frozen=True, slots=True)
class Distribution:
    """One metric of every piece of every system, drawn over that of real music."""

    key: str  # name of the metric
    title: str  # shown, as are unit and explanation
    unit: str
    explanation: str
    # (B,) numbers of pieces for each system's name; those not finite are undefined, and counted.
    values: Mapping[str, ArrayLike]
    real: str  # name of real music
    group: str = ""  # prompt type

    def __post_init__(self) -> None:
        if self.real not in self.values:
            found = ", ".join(self.values) or "none"
            raise MgenError(f"distribution {self.key}: expected values of '{self.real}', found {found}")
        for name, values in self.values.items():
            if np.asarray(values).ndim != 1:
                raise MgenError(f"distribution {self.key}: expected (B,) values of '{name}', found {np.shape(values)}")


def whisker(cell: Bounded, aim: Bounded | None, span: tuple[float, float]) -> str:
    """Draws a dot on its interval, over the aim and its interval; rings are seeds, an arrowhead is beyond the span."""
    if not is_known(cell):
        return ""

    def x(value: float) -> float:
        return 4 + 72 * min(max((value - span[0]) / (span[1] - span[0] or 1), 0.0), 1.0)

    parts = []
    if aim:
        across = x(aim.high) - x(aim.low) + 1.5
        parts.append(f'<rect class="aim" x="{x(aim.low) - 0.75:.1f}" y="0" width="{across:.1f}" height="12"/>')
    parts.append(f'<line x1="{x(cell.low):.1f}" x2="{x(cell.high):.1f}" y1="6" y2="6"/>')
    seeds = [seed for seed in getattr(cell, "seeds", ()) if math.isfinite(seed)]
    parts += [f'<circle class="seed" cx="{x(seed):.1f}" cy="6" r="2.2"/>' for seed in seeds]
    if span[0] <= cell.value <= span[1]:
        parts.append(f'<circle cx="{x(cell.value):.1f}" cy="6" r="2.6"/>')
    else:
        parts.append(f'<path d="{"M80 6l-6-4v8z" if cell.value > span[1] else "M0 6l6-4v8z"}"/>')
    return f'<svg class="whisker" viewBox="0 0 80 12" aria-hidden="true">{"".join(parts)}</svg>'


def distribution_svg(distribution: Distribution, roles: Mapping[str, str] | None = None) -> str:
    """Draws a lane for each system: its histogram as a line over that of real music as an area, medians marked.

    Heights are square roots of shares, so that rare values stay visible (Tukey's rootogram). All share one axis, from
    the lowest 1st to the highest 99th percentile of any system; values beyond it are in the outermost bins.

    Args:
        roles: of each row's name, one of `mgen.evaluation.comparisons.ROLES`; a class of its lane.
    """
    values = {name: np.asarray(of, np.float64) for name, of in distribution.values.items()}
    defined = {name: of[np.isfinite(of)] for name, of in values.items()}
    some = [of for of in defined.values() if len(of)]
    height = _LANE * len(values) + 40
    label = f"{distribution.title}{_in(distribution.unit)}: {_in_words(values, defined, distribution.real)}"
    if not some:
        return figure(_WIDTH, 40, label, '<text x="4" y="24">undefined for every piece</text>', "spread")
    low = min(float(np.percentile(of, 1)) for of in some)
    high = max(float(np.percentile(of, 99)) for of in some)
    marks = ticks(low, high, 4)
    if high <= low:
        low, high = marks[0], marks[-1]
    edges = np.linspace(low, high, _BINS + 1)
    shares = {name: _shares(of, edges) for name, of in defined.items()}
    tallest = max(float(share.max()) for share in shares.values())

    def x(value: float) -> float:
        return _LABELS + (value - low) / (high - low) * (_WIDTH - _LABELS - 8)

    def outline(share: NDArray[np.float64], floor: float, shut: bool) -> str:
        y = floor - _TALL * np.sqrt(share / tallest)
        steps = "".join(f"V{top:.1f}H{x(edge):.1f}" for top, edge in zip(y, edges[1:].tolist(), strict=True))
        return f"M{x(low):.1f} {floor:.1f}{steps}V{floor:.1f}{'Z' if shut else ''}"

    parts = []
    bottom = _LANE * len(values) + 4
    for tick in (tick for tick in marks if low <= tick <= high):
        parts.append(rule("grid", x(tick), 0, bottom) + caption(x(tick), bottom + 15, f"{tick:,g}", "middle"))
    ground = shares[distribution.real]
    medians = {name: x(min(max(float(np.median(of)), low), high)) for name, of in defined.items() if len(of)}
    for i, (name, share) in enumerate(shares.items()):
        floor = _LANE * (i + 1)
        role = (roles or {}).get(name, "real" if name == distribution.real else "tuned")
        drawn = name != distribution.real and len(defined[name]) > 0
        own = f'<path class="own" d="{outline(share, floor, False)}"/>' if drawn else ""
        middle = rule("median", medians[name], floor - 8, floor + 3) if name in medians else ""
        parts.append(
            f'<g class="lane role-{escape(role)}">{_name(name, len(values[name]), len(defined[name]), floor)}'
            f'<path class="ground" d="{outline(ground, floor, True)}"/>{own}{middle}</g>'
        )
    if distribution.real in medians:
        parts.append(rule("aim", medians[distribution.real], 0, bottom))
    parts.append(caption(_WIDTH - 8, bottom + 31, distribution.unit or distribution.title, "end"))
    return figure(_WIDTH, height, label, "".join(parts), "spread")


def _shares(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the values in each bin; the outermost bins include values beyond them."""
    counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    return counts / max(len(values), 1)


def _in_words(values: Mapping[str, NDArray[np.float64]], defined: Mapping[str, NDArray[np.float64]], real: str) -> str:
    """The drawing in words: median and middle half of each system."""
    words = []
    for name in [real, *(name for name in values if name != real)]:
        of, missing = defined[name], len(values[name]) - len(defined[name])
        if not len(of):
            words.append(f"{name}: undefined for all {len(values[name])} pieces")
            continue
        lower, median, upper = np.percentile(of, (25, 50, 75))
        gone = f", {missing} undefined" if missing else ""
        pieces = "1 piece" if len(of) == 1 else f"{len(of)} pieces"
        words.append(f"{name}: median {median:.3g}, middle half {lower:.3g} to {upper:.3g}, {pieces}{gone}")
    return "; ".join(words)


def _name(name: str, count: int, defined: int, floor: float) -> str:
    """A system's name next to its lane, and how many pieces have no number."""
    short = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1].rstrip()}…"
    whole = f"<title>{escape(name)}</title>" if short != name else ""
    lost = caption(0, floor, f"{count - defined:,} of {count:,} undefined", "start", "lost") if defined < count else ""
    y = floor - (13 if lost else 7)
    return f'<text class="who" x="0" y="{y:.1f}">{whole}{escape(short)}</text>{lost}'


def curve_svg(curve: Curve) -> str:
    """Draws a line chart with its axes: `across` to the right, `unit` upwards. Values not finite leave a gap."""
    width, height, left, right, top, bottom = 440, 250, 48.0, 10.0, 24.0, 34.0
    series = {name: _points(*pair) for name, pair in curve.series.items()}
    steps = np.concatenate([points[0] for points in series.values()] or [np.zeros(0)])
    values = np.concatenate([points[1] for points in series.values()] or [np.zeros(0)])
    values = values[np.isfinite(values)]
    if not len(values):
        return figure(width, 40, f"{curve.title}: nothing was logged", '<text x="4" y="24">nothing was logged</text>')
    y_ticks = ticks(values.min(), values.max())
    x_ticks = np.unique(steps).tolist() if curve.logarithmic else ticks(steps.min(), steps.max())
    x0, x1 = float(steps.min()), max(float(steps.max()), float(steps.min()) + 1)
    y0, y1 = min(y_ticks[0], float(values.min())), max(y_ticks[-1], float(values.max()))

    def x(step: float) -> float:
        share = math.log(step / x0) / math.log(x1 / x0) if curve.logarithmic else (step - x0) / (x1 - x0)
        return left + share * (width - left - right)

    def y(value: float) -> float:
        return height - bottom - (value - y0) / (y1 - y0) * (height - top - bottom)

    parts = [f'<text class="unit" x="4" y="12">{escape(curve.unit)}</text>']
    for tick in y_ticks:
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
            f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:,g}</text>'
        )
    for tick in x_ticks:
        if x0 <= tick <= x1:
            parts.append(f'<text x="{x(tick):.1f}" y="{height - bottom + 16}" text-anchor="middle">{tick:,g}</text>')
    parts.append(f'<text x="{width - right}" y="{height - 3}" text-anchor="end">{escape(curve.across)}</text>')
    for i, (at, of) in enumerate(series.values()):
        dashed = " dashed" if i >= SERIES else ""
        parts.append(f'<g class="s{i % SERIES}{dashed}">{"".join(_strokes(at, of, x, y))}</g>')
    words = "; ".join(f"{name} from {of[0]:.3g} to {of[-1]:.3g}" for name, (_, of) in series.items() if len(of))
    return figure(
        width, height, f"{curve.title}{_in(curve.unit)}, {curve.across} {x0:g} to {x1:g}: {words}", "".join(parts)
    )


def standalone_svg(curve: Curve) -> str:
    """`curve_svg` as a file: with colours, and the name of each series in its colour below the chart."""
    drawn = curve_svg(curve)
    box = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', drawn)
    assert box is not None
    width, height, line = float(box[1]), float(box[2]), 15
    style = (
        "text{font:12px sans-serif;fill:#333}.grid{stroke:#ddd}polyline{fill:none;stroke-width:1.6}"
        ".dashed polyline{stroke-dasharray:5 3}"
    )
    names = ""
    for i, ink in enumerate(INKS):
        style += f".s{i} polyline{{stroke:{ink}}}.s{i} circle,text.s{i}{{fill:{ink}}}"
    for i, name in enumerate(curve.series):
        shown = f"{escape(name)}{' (dashed)' if i >= SERIES else ''}"
        names += f'<text class="s{i % SERIES}" x="48" y="{height + line * (i + 1):g}">{shown}</text>'
    taller = f'viewBox="0 0 {width:g} {height + line * (len(curve.series) + 1):g}" xmlns="http://www.w3.org/2000/svg"'
    drawn = drawn.replace(box[0], taller, 1)
    begin = drawn.index(">") + 1
    return drawn[:begin] + f"<style>{style}</style>" + drawn[begin:].replace("</svg>", f"{names}</svg>")


def swatches(curve: Curve) -> list[tuple[str, int]]:
    """Each series and the number of its colour."""
    return [(name, i % SERIES) for i, name in enumerate(curve.series)]


def averaged(curve: Curve) -> int:
    """Number of neighbouring points that one drawn point averages."""
    return max((-(-len(steps) // _POINTS) for steps, _ in curve.series.values()), default=1)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers, 1, 2 or 5 times a power of ten apart, from at or below `low` to at or above `high`."""
    if high <= low:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _points(steps: Sequence[float], values: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Reduces to at most `_POINTS` points: means over equal bins of neighbours."""
    at, of = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    if at.shape != of.shape or at.ndim != 1:
        raise MgenError(f"curve: {at.shape} steps but {of.shape} values; give one value per step")
    size = -(-len(at) // _POINTS)
    if size < 2:
        return at, of
    cuts = np.arange(0, len(at), size)
    count = np.diff(np.append(cuts, len(at)))
    return np.add.reduceat(at, cuts) / count, np.add.reduceat(of, cuts) / count


def _strokes(at: NDArray[np.float64], of: NDArray[np.float64], x: Scale, y: Scale) -> Iterable[str]:
    """Yields one polyline for each run of finite values; a single point is a dot."""
    finite = np.isfinite(of)
    for stretch in np.split(np.arange(len(of)), np.flatnonzero(np.diff(finite)) + 1):
        if not len(stretch) or not finite[stretch[0]]:
            continue
        if len(stretch) == 1:
            yield f'<circle cx="{x(at[stretch[0]]):.1f}" cy="{y(of[stretch[0]]):.1f}" r="3"/>'
        else:
            line = " ".join(f"{x(at[i]):.1f},{y(of[i]):.1f}" for i in stretch)
            yield f'<polyline points="{line}"/>'


def reliability_svg(bins: Sequence[Mapping[str, float]], size: int = 280) -> str:
    """Draws predicted against observed shares, both 0..1: one dot per bin, its area the number of pieces.

    The file needs no style sheet: it has its colours.

    Args:
        bins: entries of `mgen.stats.calibration.reliability`.
    """
    left, room = 42.0, size - 52.0

    def x(value: float) -> float:
        return left + value * room

    def y(value: float) -> float:
        return 10 + (1 - value) * room

    most = max((part["n"] for part in bins), default=1)
    parts = [f'<rect width="{size}" height="{size}" fill="#fff"/>']
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(
            f'<path d="M{x(0):.1f} {y(tick):.1f}H{x(1):.1f}M{x(tick):.1f} {y(0):.1f}V{y(1):.1f}" stroke="#ddd"/>'
            f'<text x="{left - 6:.1f}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
            f'<text x="{x(tick):.1f}" y="{y(0) + 16:.1f}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(f'<path d="M{x(0):.1f} {y(0):.1f}L{x(1):.1f} {y(1):.1f}" stroke="#888" stroke-dasharray="4"/>')
    for part in bins:
        radius = 2 + 7 * math.sqrt(part["n"] / most)
        at = f'cx="{x(part["predicted"]):.1f}" cy="{y(part["observed"]):.1f}" r="{radius:.1f}"'
        parts.append(f'<circle {at} fill="#2a6f97" fill-opacity=".75"/>')
    parts.append(
        f'<text x="{x(0.5):.1f}" y="{size - 4}" text-anchor="middle">predicted</text>'
        f'<text transform="translate(11 {y(0.5):.1f}) rotate(-90)" text-anchor="middle">observed</text>'
    )
    in_words = "predicted {predicted:.2f}, observed {observed:.2f}, {n:.0f} pieces"
    words = "; ".join(in_words.format(**part) for part in bins)
    frame = f'width="{size}" height="{size}" viewBox="0 0 {size} {size}" font-family="sans-serif" font-size="11"'
    label = f'role="img" aria-label="{escape(words)}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {frame} {label}>{"".join(parts)}</svg>'


def _in(unit: str) -> str:
    return f", {unit}" if unit else ""


def rule(name: str, x: float, y1: float, y2: float) -> str:
    """An upright line of a class."""
    return f'<line class="{name}" x1="{x:.1f}" x2="{x:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def caption(x: float, y: float, text: str, anchor: str, name: str = "") -> str:
    """Text at a point, which is its `start`, `middle` or `end`."""
    style = f' class="{name}"' if name else ""
    return f'<text{style} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def figure(width: float, height: float, label: str, inside: str, name: str = "curve") -> str:
    """A drawing of a class, with a label for readers who do not see it."""
    shape = f'class="{name}" viewBox="0 0 {width:g} {height:g}"'
    return f'<svg {shape} role="img" aria-label="{escape(label)}">{inside}</svg>'
