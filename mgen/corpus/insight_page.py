"""insight.html: the contents of a corpus as text, charts and tables, in one self-contained file.

Renders an `Insight`; nothing here reads or measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files

import jinja2
import numpy as np
from markupsafe import Markup, escape

from mgen.arrays import Floats
from mgen.corpus.clean import CLEANING_STEPS
from mgen.corpus.insight import MAX_PREDICTED, Chart, Insight
from mgen.corpus.shortcuts import ALL_COUNTS, MIN_MARGIN, MIN_STANDARD_ERRORS, Shortcut, StyleAccuracy, describe
from mgen.corpus.split import SPLITS
from mgen.render.charts import SERIES, Scale, caption, figure, rule, ticks

Shares = Mapping[str, Floats]
"""Style -> (K,) share of each class of a chart."""

_WIDTH, _HEIGHT = 400.0, 222.0  # of a chart
_LEFT, _RIGHT, _ABOVE, _BELOW = 44.0, 390.0, 22.0, 186.0  # frame of an upright chart
_NONE = "\N{EN DASH}"  # not defined
_SHORT = 3  # characters of a label that fits below a vertical bar

_FILES = ("format", "ticks_per_quarter", "tempo", "time_signature", "n_tracks")


def render_insight(insight: Insight) -> str:
    """The HTML of the page."""
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["share"] = _share
    page.filters["plain"] = _plain
    colours = {style: i % SERIES for i, style in enumerate(insight.styles)}
    shortcuts = sorted([*insight.column_shortcuts, *insight.note_shortcuts], key=lambda one: -one.works.accuracy)
    found = [one for one in shortcuts if one.works.is_above_chance]
    charts = [(chart, _chart(chart, colours)) for chart in insight.charts]
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
        music=[pair for pair in charts if pair[0].key not in _FILES],
        files=[pair for pair in charts if pair[0].key in _FILES],
        collections=[(one, Markup(phase_svg(one.phase, colours[one.style]))) for one in insight.collections],
        splits=SPLITS,
        matrix=list(zip(insight.collection_overlap["names"], insight.collection_overlap["share"], strict=True)),
        max_predicted=MAX_PREDICTED,
        min_standard_errors=int(MIN_STANDARD_ERRORS),
        min_margin=round(100 * MIN_MARGIN),
    )


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


def _chart(chart: Chart, colours: Mapping[str, int]) -> dict[str, object]:
    """What the template shows of one chart, in addition to the chart itself."""
    unit = {"pieces": "piece", "notes": "note", "onsets": "onset", "bars": "bar"}.get(chart.of, chart.of)
    legend = []
    for style, counts in chart.counts.items():
        n = sum(counts)
        middle = f", median {_plain(chart.medians[style])}" if style in chart.medians else ""
        legend.append((style, colours[style], f"{n:,} {unit if n == 1 else chart.of}{middle}"))
    rows = [
        (name, [(counts[i], counts[i] / sum(counts)) for counts in chart.counts.values()])
        for i, name in enumerate(_names(chart))
        if any(counts[i] for counts in chart.counts.values())
    ]
    missing = [style for style in colours if style not in chart.counts]
    return {"svg": Markup(chart_svg(chart, colours)), "legend": legend, "rows": rows, "missing": missing}


def _names(chart: Chart) -> list[str]:
    """Its labels, or for classes of numbers: one number where the class has the width of one, else from and to."""
    pairs = list(zip(chart.edges, chart.edges[1:], strict=False))
    if not pairs:
        return list(chart.labels)
    if all(high - low == 1 and low % 1 == 0.5 for low, high in pairs):
        return [f"{(low + high) / 2:g}" for low, high in pairs]
    kind = "g" if not chart.log else ",.0f" if pairs[0][0] >= 10 else ",.2f"
    return [f"{low:{kind}} to {high:{kind}}" for low, high in pairs]


def chart_svg(chart: Chart, colours: Mapping[str, int]) -> str:
    """Shares of each style: steps for numbers, upright bars for short names, lying bars for long ones."""
    names = _names(chart)
    shares = {style: np.array(counts) / sum(counts) for style, counts in chart.counts.items()}
    if not chart.edges and max(map(len, names)) > _SHORT:
        height, parts = _lying_bars(chart, colours, shares)
    else:
        height, parts = _HEIGHT, _upright(chart, colours, shares)
    tops = {style: int(np.argmax(share)) for style, share in shares.items()}
    maxima = [f"{style} most at {names[top]}, {_share(shares[style][top])}" for style, top in tops.items()]
    words = f"{chart.title}, share of {chart.of} by {chart.x}: {'; '.join(maxima)}"
    return figure(_WIDTH, height, words, "".join(parts), "chart")


def _percent(value: float) -> str:
    return f"{100 * value:.4g} %"


def _upright(chart: Chart, colours: Mapping[str, int], shares: Shares) -> list[str]:
    """Shares upwards, as outlines over an axis of numbers or as bars side by side over short names."""
    tallest = max(float(share.max()) for share in shares.values())
    marks = ticks(0, tallest, 4)

    def y(value: float) -> float:
        return _BELOW - value / max(marks[-1], tallest) * (_BELOW - _ABOVE)

    parts = [
        caption(4, 11, f"share of {chart.of}", "start", "unit"),
        caption(_RIGHT, _HEIGHT - 4, chart.x, "end", "unit"),
    ]
    for mark in marks:
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>')
        parts.append(caption(_LEFT - 6, y(mark) + 4, _percent(mark), "end"))
    return parts + (_outlines if chart.edges else _bars)(chart, colours, shares, y)


def _outlines(chart: Chart, colours: Mapping[str, int], shares: Shares, y: Scale) -> list[str]:
    edges = np.log(chart.edges) if chart.log else np.array(chart.edges)
    first, last = float(edges[0]), float(edges[-1])

    def x(value: float) -> float:
        return _LEFT + (value - first) / (last - first) * (_RIGHT - _LEFT)

    parts = []
    for mark, name in chart.marks or [(mark, f"{mark:g}") for mark in ticks(first, last, 6)]:
        at = float(np.log(mark)) if chart.log else mark
        if first <= at <= last:
            parts.append(rule("tick", x(at), _BELOW, _BELOW + 4))
            near = "end" if x(at) > _RIGHT - 16 and len(name) > _SHORT else "middle"
            parts.append(caption(x(at) + (8 if near == "end" else 0), _BELOW + 16, name, near))
    for style, share in shares.items():
        heights = [_BELOW, *(y(value) for value in np.repeat(share, 2)), _BELOW]
        line = " ".join(f"{x(float(at)):.1f},{high:.1f}" for at, high in zip(np.repeat(edges, 2), heights, strict=True))
        c = colours[style]
        parts.append(f'<polygon class="f{c} area" points="{line}"/><polyline class="s{c}" points="{line}"/>')
    return parts


def _bars(chart: Chart, colours: Mapping[str, int], shares: Shares, y: Scale) -> list[str]:
    slot = (_RIGHT - _LEFT) / len(chart.labels)
    wide = min(0.78 * slot / len(shares), 26.0)
    parts = []
    for i, name in enumerate(chart.labels):
        middle = _LEFT + (i + 0.5) * slot
        parts.append(caption(middle, _BELOW + 16, name, "middle"))
        for k, (style, share) in enumerate(shares.items()):
            at, top = middle + (k - len(shares) / 2) * wide, y(share[i])
            place = f'x="{at:.1f}" y="{top:.1f}" width="{wide - 1:.1f}" height="{_BELOW - top:.1f}"'
            parts.append(_bar(chart, style, i, colours, place))
    return parts


def _lying_bars(chart: Chart, colours: Mapping[str, int], shares: Shares) -> tuple[float, list[str]]:
    """Height of the drawing, and bars to the right of long names."""
    left, right, above = 138.0, _WIDTH - 44, 24.0
    thick = 9.0 if len(shares) < 3 else 7.0
    slot = thick * len(shares) + 7
    below = above + slot * len(chart.labels)
    marks = ticks(0, max(float(share.max()) for share in shares.values()), 4)

    def x(value: float) -> float:
        return left + value / marks[-1] * (right - left)

    parts = [
        caption(left - 6, 11, chart.x, "end", "unit"),
        caption(_WIDTH - 4, 11, f"share of {chart.of}", "end", "unit"),
    ]
    for mark in marks:
        parts.append(rule("grid", x(mark), above - 4, below) + caption(x(mark), below + 15, _percent(mark), "middle"))
    for i, name in enumerate(chart.labels):
        top = above + i * slot
        parts.append(caption(left - 6, top + slot / 2 + 1, name if len(name) < 24 else f"{name[:22]}…", "end"))
        for k, (style, share) in enumerate(shares.items()):
            place = f'x="{left}" y="{top + k * thick:.1f}" width="{x(share[i]) - left:.1f}" height="{thick - 1}"'
            parts.append(_bar(chart, style, i, colours, place))
    return below + 22, parts


def _bar(chart: Chart, style: str, i: int, colours: Mapping[str, int], place: str) -> str:
    """A bar with its numbers as a tooltip."""
    count, total = chart.counts[style][i], sum(chart.counts[style])
    words = f"{style}, {chart.labels[i]}: {count:,} of {total:,} {chart.of}, {count / total:.1%}"
    return f'<rect class="f{colours[style]}" {place}><title>{escape(words)}</title></rect>'


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
    return figure(96, 24, f"{_share(phase[0] / sum(phase))} of onsets on the beat", bars, f"phase f{colour}")


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
