"""insight.html: the contents of a corpus as text, charts and tables, in one self-contained file.

Renders an `Insight`; nothing here reads or measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files

import jinja2
import numpy as np
from markupsafe import Markup, escape

from mgen.corpus.clean import CLEANING_STEPS
from mgen.corpus.insight import MAX_PREDICTED, Chart, Insight
from mgen.corpus.shortcuts import ALL_COUNTS, MIN_MARGIN, MIN_STANDARD_ERRORS, Shortcut, StyleAccuracy, describe
from mgen.corpus.split import SPLITS
from mgen.render.charts import ticks

_SERIES = 6  # number of colours
_WIDTH = 400.0
_NONE = "\N{EN DASH}"  # not defined
_SHORT = 3  # characters of a label that fits below a vertical bar

_FILES = ("format", "ticks_per_quarter", "tempo", "time_signature", "n_tracks")


def render_insight(insight: Insight) -> str:
    """The HTML of the page."""
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["share"] = _share
    page.filters["plain"] = _plain
    colours = {style: i % _SERIES for i, style in enumerate(insight.styles)}
    shortcuts = sorted([*insight.column_shortcuts, *insight.note_shortcuts], key=lambda one: -one.works.accuracy)
    found = [one for one in shortcuts if one.works.is_above_chance]
    charts = [_chart(chart, colours) for chart in insight.charts]
    return page.from_string(files(__package__).joinpath("insight.html.jinja").read_text("utf-8")).render(
        insight=insight,
        lead=summary_lines(insight),
        in_tokens=[_title_and_text(one) for one in found if one.property.in_tokens and one.key != ALL_COUNTS],
        removed=[_title_and_text(one) for one in found if not one.property.in_tokens],
        all_counts=next((_title_and_text(one) for one in shortcuts if one.key == ALL_COUNTS), None),
        no_shortcut=[one.property.title for one in shortcuts if not one.works.is_above_chance],
        shortcuts=[(one, Markup(shortcut_svg(one))) for one in shortcuts],
        count_names=list(dict.fromkeys(name for *_, counts in insight.cleaning for name in counts)),
        cuts=[(CLEANING_STEPS[name].removeprefix("tabs: "), n) for name, n in insight.chunks.get("split", {}).items()],
        music=[chart for chart in charts if chart["key"] not in _FILES],
        files=[chart for chart in charts if chart["key"] in _FILES],
        collections=[(one, Markup(phase_svg(one.phase, colours[one.style]))) for one in insight.collections],
        splits=SPLITS,
        matrix=_matrix(insight.collection_overlap),
        max_predicted=MAX_PREDICTED,
        min_standard_errors=int(MIN_STANDARD_ERRORS),
        min_margin=round(100 * MIN_MARGIN),
    )


# ---------------------------------------------------------------- text


def summary_lines(insight: Insight) -> list[str]:
    """The opening sentences: the size of the corpus, and its strongest shortcut."""
    total = [sum(getattr(part, name) for part in insight.styles.values()) for name in ("pieces", "notes", "tokens")]
    parts = ", ".join(
        f"{part.pieces:,} pieces and {insight.hours[style]:,.0f} hours of {style}"
        for style, part in insight.styles.items()
    )
    lines = [
        f"{total[0]:,} pieces of {insight.works:,} works: {_large(total[1])} notes in {_large(total[2])} tokens, "
        f"about {sum(insight.hours.values()):,.0f} hours at the first tempo of each file. {parts}."
    ]
    found = [one for one in insight.note_shortcuts if one.key != ALL_COUNTS and one.works.is_above_chance]
    if found:
        lines.append(
            f"Strongest shortcut that survives cleaning: {found[0].property.title}, with an accuracy of "
            f"{100 * found[0].works.accuracy:.0f} % on the style of unseen works."
        )
    elif insight.note_shortcuts:
        lines.append("No simple count of the cleaned notes predicts the style better than chance.")
    return lines


def _title_and_text(shortcut: Shortcut) -> tuple[str, str]:
    """The title of a shortcut, and the rest of its description."""
    return shortcut.property.title, describe(shortcut).removeprefix(shortcut.property.title)


def _large(number: int) -> str:
    """A count; from a million on with three digits, in millions."""
    return f"{number:,}" if number < 1_000_000 else f"{number / 1e6:.3g} million"


def _share(part: float | None, digits: int = 0) -> str:
    """Percent; a share that is above 0 but would be rounded to 0 is shown as `< 1 %`."""
    if part is None:
        return _NONE
    least = 10.0**-digits
    return f"< {least:g} %" if 0 < 100 * part < least / 2 else f"{100 * part:.{digits}f} %"


def _plain(number: float | None, digits: int = 2) -> str:
    return _NONE if number is None else f"{number:,.{digits}f}".rstrip("0").rstrip(".") if digits else f"{number:,.0f}"


def _matrix(overlap: Mapping[str, object]) -> list[tuple[str, list[float | None]]]:
    """Name and shares of each row of the overlap of collections."""
    names, share = overlap.get("names") or [], overlap.get("share") or []
    if not isinstance(names, Sequence) or not isinstance(share, Sequence):
        return []
    return [
        (str(name), [None if value is None else float(value) for value in row])
        for name, row in zip(names, share, strict=False)
    ]


# ---------------------------------------------------------------- charts


def _chart(chart: Chart, colours: Mapping[str, int]) -> dict[str, object]:
    """What the template shows of one chart."""
    unit = {"pieces": "piece", "notes": "note", "onsets": "onset", "bars": "bar"}.get(chart.of, chart.of)
    legend = []
    for style, counts in chart.counts.items():
        n = sum(counts)
        middle = f", median {_plain(chart.medians[style])}" if style in chart.medians else ""
        legend.append((style, colours[style], f"{n:,} {unit if n == 1 else chart.of}{middle}"))
    names = list(chart.labels) or _ranges(chart)
    rows = [
        (name, [(counts[i], counts[i] / sum(counts)) for counts in chart.counts.values()])
        for i, name in enumerate(names)
        if any(counts[i] for counts in chart.counts.values())
    ]
    return {
        "key": chart.key,
        "title": chart.title,
        "note": chart.note,
        "x": chart.x,
        "of": chart.of,
        "svg": Markup(chart_svg(chart, colours)),
        "legend": legend,
        "rows": rows,
        "missing": [style for style in colours if style not in chart.counts],
    }


def _ranges(chart: Chart) -> list[str]:
    """Names of the classes of numbers: one number where the class has the width of one, else from and to."""
    pairs = list(zip(chart.edges, chart.edges[1:], strict=False))
    if all(high - low == 1 and low % 1 == 0.5 for low, high in pairs):
        return [f"{(low + high) / 2:g}" for low, high in pairs]
    if chart.log:
        digits = 0 if pairs[0][0] >= 10 else 2
        return [f"{low:,.{digits}f} to {high:,.{digits}f}" for low, high in pairs]
    return [f"{low:g} to {high:g}" for low, high in pairs]


def chart_svg(chart: Chart, colours: Mapping[str, int]) -> str:
    """Shares of each style: steps for numbers, upright bars for short names, lying bars for long ones."""
    if chart.edges:
        return _outlines(chart, colours)
    return (_vertical_bars if max(map(len, chart.labels)) <= _SHORT else _horizontal_bars)(chart, colours)


def _svg(chart: Chart, height: float, parts: Sequence[str]) -> str:
    maxima = []
    for style, counts in chart.counts.items():
        top = int(np.argmax(counts))
        name = chart.labels[top] if chart.labels else _ranges(chart)[top]
        maxima.append(f"{style} most at {name}, {_share(counts[top] / sum(counts))}")
    label = escape(f"{chart.title}, share of {chart.of} by {chart.x}: {'; '.join(maxima)}")
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH:g} {height:g}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )


def _shares(chart: Chart) -> dict[str, np.ndarray]:
    return {style: np.array(counts) / sum(counts) for style, counts in chart.counts.items()}


def _text(x: float, y: float, words: str, anchor: str = "middle", name: str = "") -> str:
    kind = f' class="{name}"' if name else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(words)}</text>'


def _percent(value: float) -> str:
    return f"{100 * value:.4g} %"


def _frame(
    chart: Chart, top: float, left: float, right: float, above: float, below: float
) -> tuple[list[str], Callable[[float], float]]:
    """Lines and names of the upward axis, the names of both, and the scale."""
    marks = ticks(0, top, 4)
    high = max(marks[-1], top)

    def y(value: float) -> float:
        return below - value / high * (below - above)

    parts = [_text(4, 11, f"share of {chart.of}", "start", "unit"), _text(right, below + 32, chart.x, "end", "unit")]
    for mark in marks:
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>')
        parts.append(_text(left - 6, y(mark) + 4, _percent(mark), "end"))
    return parts, y


def _outlines(chart: Chart, colours: Mapping[str, int]) -> str:
    """Outlines of histograms over an axis of numbers."""
    left, right, above, below, height = 44.0, _WIDTH - 10, 22.0, 186.0, 222.0
    shares = _shares(chart)
    parts, y = _frame(chart, max(float(share.max()) for share in shares.values()), left, right, above, below)
    edges = np.log(chart.edges) if chart.log else np.array(chart.edges)
    first, last = float(edges[0]), float(edges[-1])

    def x(value: float) -> float:
        return left + (value - first) / (last - first) * (right - left)

    marks = chart.marks or [(mark, f"{mark:g}") for mark in ticks(first, last, 6)]
    for mark, name in marks:
        at = float(np.log(mark)) if chart.log else mark
        if first <= at <= last:
            parts.append(f'<line class="tick" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{below}" y2="{below + 4}"/>')
            near = "end" if x(at) > right - 16 and len(name) > _SHORT else "middle"
            parts.append(_text(x(at) + (8 if near == "end" else 0), below + 16, name, near))
    for style, share in shares.items():
        corners = [f"{x(first):.1f},{below}"]
        for i, value in enumerate(share):
            corners += [f"{x(float(edges[i])):.1f},{y(value):.1f}", f"{x(float(edges[i + 1])):.1f},{y(value):.1f}"]
        corners.append(f"{x(last):.1f},{below}")
        line = " ".join(corners)
        c = colours[style]
        parts.append(f'<polygon class="f{c} area" points="{line}"/><polyline class="s{c}" points="{line}"/>')
    return _svg(chart, height, parts)


def _vertical_bars(chart: Chart, colours: Mapping[str, int]) -> str:
    """Bars side by side over short names."""
    left, right, above, below, height = 44.0, _WIDTH - 10, 22.0, 186.0, 222.0
    shares = _shares(chart)
    parts, y = _frame(chart, max(float(share.max()) for share in shares.values()), left, right, above, below)
    slot = (right - left) / len(chart.labels)
    wide = min(0.78 * slot / len(shares), 26.0)
    for i, name in enumerate(chart.labels):
        middle = left + (i + 0.5) * slot
        parts.append(_text(middle, below + 16, name))
        for k, (style, share) in enumerate(shares.items()):
            at = middle + (k - len(shares) / 2) * wide
            parts.append(
                f'<rect class="f{colours[style]}" x="{at:.1f}" y="{y(share[i]):.1f}" width="{wide - 1:.1f}" '
                f'height="{below - y(share[i]):.1f}"><title>{_tooltip(chart, style, i)}</title></rect>'
            )
    return _svg(chart, height, parts)


def _horizontal_bars(chart: Chart, colours: Mapping[str, int]) -> str:
    """Bars to the right of long names."""
    shares = _shares(chart)
    left, right, above = 138.0, _WIDTH - 44, 24.0
    thick = 9.0 if len(shares) < 3 else 7.0
    slot = thick * len(shares) + 7
    below = above + slot * len(chart.labels)
    marks = ticks(0, max(float(share.max()) for share in shares.values()), 4)

    def x(value: float) -> float:
        return left + value / marks[-1] * (right - left)

    parts = [_text(left - 6, 11, chart.x, "end", "unit"), _text(_WIDTH - 4, 11, f"share of {chart.of}", "end", "unit")]
    for mark in marks:
        parts.append(f'<line class="grid" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{above - 4}" y2="{below}"/>')
        parts.append(_text(x(mark), below + 15, _percent(mark)))
    for i, name in enumerate(chart.labels):
        top = above + i * slot
        parts.append(_text(left - 6, top + slot / 2 + 1, name if len(name) < 24 else f"{name[:22]}…", "end"))
        for k, (style, share) in enumerate(shares.items()):
            parts.append(
                f'<rect class="f{colours[style]}" x="{left}" y="{top + k * thick:.1f}" '
                f'width="{x(share[i]) - left:.1f}" height="{thick - 1}">'
                f"<title>{_tooltip(chart, style, i)}</title></rect>"
            )
    return _svg(chart, below + 22, parts)


def _tooltip(chart: Chart, style: str, i: int) -> str:
    counts = chart.counts[style]
    return str(
        escape(
            f"{style}, {chart.labels[i]}: {counts[i]:,} of {sum(counts):,} {chart.of}, {counts[i] / sum(counts):.1%}"
        )
    )


def phase_svg(phase: Sequence[int], colour: int) -> str:
    """A small picture of onsets in the quarter: 24 bars, the tallest as high as the picture."""
    top = max(phase, default=0)
    if not top:
        return ""
    bars = "".join(
        f'<rect x="{4 * step}" y="{24 - 24 * count / top:.1f}" width="3" height="{24 * count / top:.1f}"/>'
        for step, count in enumerate(phase)
        if count
    )
    label = f"{_share(phase[0] / sum(phase))} of onsets on the beat"
    return f'<svg class="phase f{colour}" viewBox="0 0 96 24" role="img" aria-label="{label}">{bars}</svg>'


def shortcut_svg(shortcut: Shortcut) -> str:
    """Dots with their standard errors on an axis from 0 to 1, and a line at the blind guess."""

    def x(value: float) -> float:
        return 4 + 132 * min(max(value, 0), 1)

    def mark(result: StyleAccuracy | None, y: int, name: str) -> str:
        if result is None:
            return ""
        low, high = x(result.accuracy - 2 * result.error), x(result.accuracy + 2 * result.error)
        return (
            f'<g class="{name}"><line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>'
            f'<circle cx="{x(result.accuracy):.1f}" cy="{y}" r="3"/></g>'
        )

    chance = x(shortcut.works.chance)
    return (
        '<svg class="accuracy" viewBox="0 0 140 26" aria-hidden="true">'
        '<line class="axis" x1="4" x2="136" y1="25" y2="25"/>'
        f'<line class="chance" x1="{chance:.1f}" x2="{chance:.1f}" y1="0" y2="25"/>{mark(shortcut.works, 5, "works")}'
        f"{mark(shortcut.collections, 12, 'unseen')}{mark(shortcut.on_grid, 19, 'grid-only')}</svg>"
    )
