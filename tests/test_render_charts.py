from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from mgen.errors import MgenError
from mgen.render.charts import (
    Curve,
    Distribution,
    averaged,
    curve_svg,
    distribution_svg,
    ticks,
    whisker,
)
from mgen.stats.intervals import Interval

# ---------------------------------------------------------------- curves


def points_of(svg):
    return [[tuple(map(float, p.split(","))) for p in line.split()] for line in re.findall(r'points="([^"]+)"', svg)]


def test_a_straight_line_is_drawn_straight_and_fills_the_axes():
    (line,) = points_of(curve_svg(Curve("loss", "nats", {"a": ([0, 50, 100], [0.0, 5.0, 10.0])})))
    (x0, y0), (x1, y1), (x2, y2) = line
    assert (x1, y1) == pytest.approx(((x0 + x2) / 2, (y0 + y2) / 2), abs=0.06)
    assert x0 == 48 and x2 == 430 and y0 > y2  # the axes of the drawing; larger is higher


def test_what_is_not_finite_leaves_a_gap_and_a_lone_point_is_a_dot():
    values = [1.0, 2.0, float("nan"), 3.0, float("inf"), 1.0, 2.0]
    svg = curve_svg(Curve("loss", "", {"a": (list(range(7)), values)}))
    assert [len(line) for line in points_of(svg)] == [2, 2]
    assert svg.count("<circle") == 1
    assert "nan" not in svg and "inf" not in svg


def test_long_curves_are_averaged_and_say_so():
    curve = Curve("loss", "nats", {"a": (list(range(1000)), [float(i % 5) for i in range(1000)])})
    (line,) = points_of(curve_svg(curve))
    assert len(line) == 200  # bins of five, the fewest that leave no more than 240 points
    assert len({y for _, y in line}) == 1  # each bin holds 0, 1, 2, 3, 4
    assert averaged(curve) == 5


def test_a_curve_of_nothing_says_so():
    for series in ({}, {"a": ([], [])}, {"a": ([1], [float("nan")])}):
        assert "nothing was logged" in curve_svg(Curve("loss", "nats", series))


def test_a_logarithmic_axis_has_its_ticks_at_the_points():
    svg = curve_svg(Curve("continuation", "AUC", {"a": ([8, 16, 32], [0.5, 0.6, 0.9])}, "notes", logarithmic=True))
    (line,) = points_of(svg)
    (first, _), (middle, _), (last, _) = line
    assert middle - first == pytest.approx(last - middle, abs=0.2)
    assert re.findall(r'text-anchor="middle">(\d+)<', svg) == ["8", "16", "32"] and ">notes</text>" in svg


def test_steps_and_values_must_match():
    with pytest.raises(MgenError, match=r"\(2,\) steps but \(1,\) values"):
        curve_svg(Curve("loss", "nats", {"a": ([1, 2], [1.0])}))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0.13, 0.57, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (0, 120, [0, 50, 100, 150]),
        (3, 3, [1, 2, 3, 4, 5]),
    ],
)
def test_ticks_are_round_and_span_the_data(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


# ---------------------------------------------------------------- whiskers


def test_a_whisker_shows_number_interval_aim_and_seeds():
    svg = ElementTree.fromstring(whisker(Interval(5, 2, 10, seeds=(0, 10, float("nan"))), Interval(5, 4, 6), (0, 10)))
    # 72 units for 0 to 10, from 4
    line, (*seeds, dot), band = svg.find("line"), svg.findall("circle"), svg.find("rect")
    assert (line.get("x1"), line.get("x2")) == ("18.4", "76.0")
    assert (dot.get("cx"), [seed.get("cx") for seed in seeds]) == ("40.0", ["4.0", "76.0"])
    assert float(band.get("x")) == pytest.approx(4 + 72 * 0.4 - 0.75, abs=0.06)


@pytest.mark.parametrize(("value", "beyond"), [(20, "M80"), (-20, "M0 ")])
def test_what_lies_outside_the_span_is_an_arrowhead_at_its_end(value, beyond):
    svg = ElementTree.fromstring(whisker(Interval(value, value - 1, value + 1), None, (0, 10)))
    assert svg.find("path").get("d").startswith(beyond) and svg.find("circle") is None
    assert all(4 <= float(svg.find("line").get(key)) <= 76 for key in ("x1", "x2"))


def test_an_unknown_interval_has_no_whisker():
    assert whisker(Interval(1, float("nan"), 2), None, (0, 2)) == ""


# ---------------------------------------------------------------- distributions


def spread(values, **others):
    return Distribution("rep4", "repeats", "share", "share of repeated notes", values, "real", **others)


def lanes(svg):
    return [group for group in ElementTree.fromstring(svg).iter("g") if "lane" in group.get("class").split()]


def heights(path):
    """Tops of the steps of an outline, upwards from its floor."""
    floor = float(re.match(r"M[\d.]+ ([\d.]+)", path)[1])
    return [floor - float(top) for top in re.findall(r"V([\d.]+)H", path)]


def test_heights_are_square_roots_of_shares():
    # Real music: 3 quarters at 0, 1 quarter at 1: shares .75 and .25, roots as 1 to 0.577
    svg = distribution_svg(spread({"real": [0, 0, 0, 1], "model": [1, 1, 1, 1]}))
    real, model = lanes(svg)
    ground = heights(real.find("path").get("d"))
    assert ground[-1] / ground[0] == pytest.approx(3**-0.5, abs=0.01)
    assert not any(round(height, 1) for height in ground[1:-1])
    own = heights(model.findall("path")[1].get("d"))
    assert own[0] == 0 and own[-1] / ground[0] == pytest.approx((1 / 0.75) ** 0.5, abs=0.01)


def test_every_lane_stands_on_real_music_and_real_music_on_itself():
    rng = np.random.default_rng(0)
    svg = distribution_svg(spread({name: rng.normal(size=100) for name in ("real", "a", "b")}))
    grounds = [heights(lane.find("path").get("d")) for lane in lanes(svg)]
    assert grounds[1] == pytest.approx(grounds[0], abs=0.11) and grounds[2] == pytest.approx(grounds[0], abs=0.11)
    assert [len(lane.findall("path")) for lane in lanes(svg)] == [1, 2, 2]


def test_undefined_pieces_are_counted_and_never_a_zero():
    values = {"real": [1.0, 2.0, 3.0], "some": [2.0, np.nan, np.inf], "none": [np.nan, np.nan]}
    svg = distribution_svg(spread(values))
    texts = ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter("text")]
    assert "2 of 3 undefined" in texts and "2 of 2 undefined" in texts
    assert len(lanes(svg)[2].findall("path")) == 1  # only the ground
    assert "nan" not in svg
    label = ElementTree.fromstring(svg).get("aria-label")
    assert label == (
        "repeats, share: real: median 2, middle half 1.5 to 2.5, 3 pieces; "
        "some: median 2, middle half 2 to 2, 1 piece, 2 undefined; none: undefined for all 2 pieces"
    )


def test_lanes_know_the_kind_of_their_player_and_long_names_are_whole_in_the_title():
    name = "repetition penalty of 1.2 & more"
    svg = distribution_svg(spread({"real": [1.0, 2.0], name: [1.0, 2.0]}), {"real": "real", name: "baseline"})
    assert [lane.get("class") for lane in lanes(svg)] == ["lane role-real", "lane role-baseline"]
    assert ElementTree.fromstring(svg).find(".//title").text == name


@pytest.mark.parametrize("same", [0.0, 3.0, -2.0])
def test_a_metric_that_is_one_number_for_all_is_drawn(same):
    svg = distribution_svg(spread({"real": [same] * 5, "model": [same] * 5}))
    assert len(lanes(svg)) == 2 and "nan" not in svg


def test_a_metric_that_is_undefined_for_all_says_so():
    assert "undefined for every piece" in distribution_svg(spread({"real": [np.nan], "model": []}))


def test_a_distribution_needs_real_music_and_one_number_a_piece():
    with pytest.raises(MgenError, match="distribution rep4: expected values of 'real', found model"):
        spread({"model": [1.0]})
    with pytest.raises(MgenError, match="expected \\(B,\\) values of 'real'"):
        spread({"real": [[1.0]]})
