"""Drives pages in headless Chromium; skips tests where Chromium or playwright is missing.

A module has its own fixture:

    @pytest.fixture(scope="module")
    def chromium():
        with browser.launch() as running:
            yield running

and in a test that asks for it:

    with browser.tab(chromium, width=390, color_scheme="dark") as tab:
        tab.page.goto(url)  # or tab.page.set_content(html)
        ...
        tab.assert_quiet()
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required"]
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ITSELF = ("data", "blob", "about", "file")  # schemes that ask nobody


@dataclass
class Tab:
    """A page, and the problems it reported.

    Attributes:
        page: playwright's.
        console: warnings and errors of the console, as `type: text`.
        errors: exceptions that nobody caught.
        failed: requests without an answer, or with one from 400 upwards, as `address: reason`.
        outside: requests to anything but this machine.
        requests: addresses of all requests.
    """

    page: object
    console: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def assert_quiet(self):
        """Nothing in the console, no exception, no failed request, none to another machine."""
        wrong = {name: getattr(self, name) for name in ("console", "errors", "failed", "outside")}
        assert not any(wrong.values()), wrong


def executable():
    """Chromium's path, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def launch():
    """A running browser; skips the test where it cannot run."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = executable()
    if path is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield running
        finally:
            running.close()


@contextmanager
def tab(running, width=1280, height=900, **options):
    """A `Tab` of its own context; options are those of playwright's `new_context`, such as `color_scheme="dark"`."""
    context = running.new_context(viewport={"width": width, "height": height}, **options)
    try:
        new = Tab(context.new_page())
        _listen(new)
        yield new
    finally:
        context.close()


def overflow(page):
    """Pixels by which the page is wider than its window; 0 where it does not scroll sideways."""
    return page.evaluate("document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth")


def focus_order(page, presses=200, key="Tab"):
    """What the keyboard reaches: for each press that moves the focus, the element's tag, name and visible outline.

    Ends when the focus leaves the page or comes round to the first.
    """
    found = []
    for _ in range(presses):
        page.keyboard.press(key)
        now = page.evaluate(_FOCUS)
        if now is None or (found and now["path"] == found[0]["path"]):
            break
        found.append(now)
    return found


def contrasts(page, least=4.5):
    """Texts whose contrast with their ground is below `least` (WCAG 2.2, 1.4.3): (ratio, text, selector)."""
    return [tuple(item) for item in page.evaluate(_CONTRAST, least)]


def heading_problems(page):
    """Headings that are deeper than the one before by more than a level, and any first but an h1; as `h4 text`."""
    found = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].filter(h => h.checkVisibility())"
        ".map(h => [+h.tagName[1], h.textContent.trim()])"
    )
    before = [0, *(level for level, _ in found)]
    return [f"h{level} {text}" for (level, text), last in zip(found, before, strict=False) if level > last + 1]


def unnamed(page):
    """What a screen reader would have no words for: tags of pictures, players, tables, cells and fields."""
    return page.evaluate(_UNNAMED)


def _listen(new):
    page = new.page
    page.on("console", lambda m: new.console.append(f"{m.type}: {m.text}") if m.type in ("warning", "error") else None)
    page.on("pageerror", lambda error: new.errors.append(str(error)))
    page.on("requestfailed", lambda request: new.failed.append(f"{request.url[:200]}: {request.failure}"))
    page.on("response", lambda r: new.failed.append(f"{r.url[:200]}: {r.status}") if r.status >= 400 else None)
    page.on("request", lambda request: _note(new, request.url))


def _note(new, url):
    new.requests.append(url[:200])
    parts = urlsplit(url[:500])
    if parts.scheme not in ITSELF and parts.hostname not in LOOPBACK:
        new.outside.append(url[:200])


_FOCUS = """() => {
  const here = document.activeElement;
  if (!here || here === document.body || here === document.documentElement) return null;
  const style = getComputedStyle(here), box = here.getBoundingClientRect(), path = [];
  for (let e = here; e && e !== document.body; e = e.parentElement)
    path.unshift(e.tagName + [...e.parentElement.children].indexOf(e));
  return {
    tag: here.tagName.toLowerCase(), path: path.join('>'), role: here.getAttribute('role'),
    name: (here.getAttribute('aria-label') || here.textContent || '').trim().slice(0, 80),
    outline: style.outlineStyle === 'none' ? 0 : parseFloat(style.outlineWidth),
    inside: box.width > 0 && box.height > 0 && box.right > 0 && box.left < innerWidth,
  };
}"""

_UNNAMED = """() => {
  const named = e => (e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.getAttribute('alt') ||
    e.textContent || (e.labels && e.labels.length) || '') !== '';
  const hidden = e => e.closest('[aria-hidden=true]') || !e.checkVisibility();
  const bad = [...document.querySelectorAll('img, svg, audio, button, a, input, [role=region], [role=img]')]
    .filter(e => !hidden(e) && !(e.tagName === 'AUDIO' ? e.getAttribute('aria-label') : named(e)));
  for (const table of document.querySelectorAll('table')) {
    if (hidden(table)) continue;
    if (!table.caption) bad.push(table);
    bad.push(...[...table.querySelectorAll('th')].filter(th => !th.hasAttribute('scope')));
  }
  return bad.map(e => e.outerHTML.slice(0, 100));
}"""

# Colours are read back from a canvas, which turns every notation (color-mix, oklch, ...) into RGBA.
_CONTRAST = """least => {
  const pen = Object.assign(document.createElement('canvas'), {width: 1, height: 1})
    .getContext('2d', {willReadFrequently: true});
  const known = {};
  const rgba = colour => known[colour] ??= (() => {
    pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  })();
  const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = e => {
    const layers = [];
    for (; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
    const canvas = matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18, 1] : [255, 255, 255, 1];
    return layers.reverse().reduce((under, top) => over(top, under), canvas);
  };
  const bad = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walk.nextNode());) {
    const e = node.parentElement, text = node.data.trim();
    if (!text || ['SCRIPT', 'STYLE', 'NOSCRIPT', 'TITLE', 'DESC'].includes(e.tagName.toUpperCase())) continue;
    if (!e.checkVisibility({opacityProperty: false, visibilityProperty: true})) continue;
    const style = getComputedStyle(e), under = ground(e);
    const ink = rgba(e instanceof SVGElement ? style.fill : style.color);
    let alpha = ink[3] * (e instanceof SVGElement ? +style.fillOpacity : 1);
    for (let up = e; up; up = up.parentElement) alpha *= +getComputedStyle(up).opacity;
    const pair = [light(over([...ink.slice(0, 3), alpha], under)), light(under)].sort((a, b) => b - a);
    const ratio = (pair[0] + .05) / (pair[1] + .05);
    if (ratio < least) bad.push([+ratio.toFixed(2), text.slice(0, 60), e.tagName.toLowerCase() + '.' +
      (e.getAttribute('class') || '')]);
  }
  return bad;
}"""
