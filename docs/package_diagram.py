"""Counts the imports between the packages and draws them: a table on stdout, and an SVG.

    python docs/package_diagram.py --out docs/packages.svg
    python docs/package_diagram.py --root ../another_checkout

`FLOORS` is the order of the packages, lowest first. A package imports only itself and lower ones;
tests/test_architecture.py reads the order from here. Needs only Python.
"""

from __future__ import annotations

import argparse
import ast
import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

FLOORS = """
core formats encoding music transforms stats render corpus models sampling runs training rl testing rewards critics
evaluation listen hub cards workflows cli scripts
""".split()  # noqa: SIM905
FOLDERS = ("mgen", "rewards", "critics", "scripts")
ROW, BOX, LEFT = 34, 230, 250  # pixels: height of a row, width of a box, space for the arcs left of the boxes


def module_name(path: Path) -> str:
    """`mgen.rl.loop` for mgen/rl/loop.py, a path below the root."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def nodes(source: str) -> tuple[ast.AST, ...]:
    """Every node of a module's syntax tree."""
    return tuple(ast.walk(ast.parse(source)))


@functools.cache
def imports(source: str, package: str = "") -> list[set[str]]:
    """Full names that each import statement of a module imports, wherever in the module it stands.

    Args:
        source: text of the module.
        package: what its relative imports start from.
    """
    found = []
    for node in nodes(source):
        if isinstance(node, ast.Import):
            found.append({alias.name for alias in node.names})
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            base += [node.module] if node.module else []
            found.append({".".join([*base, alias.name]) for alias in node.names})
    return found


def floor(module: str) -> str | None:
    """Package of a module by its full name: `core` for a module of mgen in no package, None for another project."""
    top, *rest = module.split(".")
    if top != "mgen":
        return top if top in FOLDERS else None
    return rest[0] if rest and rest[0] in FLOORS else "core"


def goes_up(package: str, imported: str) -> bool:
    """True if `package` stands below what it imports."""
    return FLOORS.index(imported) > FLOORS.index(package)


def read_packages(root: Path) -> tuple[dict[str, tuple[int, int]], Counter[tuple[str, str]]]:
    """Reads every module below a root.

    Returns:
        Modules and lines of each package, and the number of import statements from a package to another. The imports
        of mgen/__init__.py are not counted: it hands out the calls of `mgen.workflows`, and runs before any package.
    """
    size: dict[str, tuple[int, int]] = {}
    edges: Counter[tuple[str, str]] = Counter()
    for path in sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py")):
        module = module_name(path.relative_to(root))
        here = floor(module)
        assert here is not None  # it lies in one of our folders
        source = path.read_text()
        modules, lines = size.get(here, (0, 0))
        size[here] = modules + 1, lines + source.count("\n")
        if module == "mgen":
            continue
        for names in imports(source, module if path.stem == "__init__" else module.rpartition(".")[0]):
            edges.update((here, there) for there in {floor(name) for name in names} - {None, here} if there)
    return size, edges


def circles(edges: Iterable[tuple[str, str]]) -> list[set[str]]:
    """Groups of packages that import each other, directly or through others; [] if there is no circle."""
    reached = {package: {there for here, there in edges if here == package} for edge in edges for package in edge}
    for middle in reached:  # Warshall: everything that can be reached
        for targets in reached.values():
            if middle in targets:
                targets |= reached[middle]
    groups = {frozenset(b for b in reached if b in reached[a] and a in reached[b]) for a in reached}
    return sorted((set(group) for group in groups if group), key=min)


def table(size: Mapping[str, tuple[int, int]], edges: Counter[tuple[str, str]]) -> str:
    """Packages from the top floor down, with what each imports, and the imports that go up."""
    out = [f"{'package':12} {'modules':>7} {'lines':>7}  imports (statements)"]
    for package in [name for name in reversed(FLOORS) if name in size]:
        there = sorted((name for here, name in edges if here == package), key=FLOORS.index, reverse=True)
        words = ", ".join(f"{name} {edges[package, name]}{' UP' * goes_up(package, name)}" for name in there)
        out.append(f"{package:12} {size[package][0]:7,} {size[package][1]:7,}  {words}")
    up = sum(count for edge, count in edges.items() if goes_up(*edge))
    modules, lines = (sum(pair[i] for pair in size.values()) for i in (0, 1))
    out += [f"{'all':12} {modules:7,} {lines:7,}", "", f"imports between packages: {edges.total()}, going up: {up}"]
    rings = "; ".join(", ".join(sorted(ring, key=FLOORS.index)) for ring in circles(edges))
    return "\n".join([*out, f"circles of packages: {rings or 'none'}"])


def drawing(size: Mapping[str, tuple[int, int]], edges: Counter[tuple[str, str]]) -> str:
    """Draws packages as boxes in the order of the floors, imports down as arcs on the right, up in red on the left."""
    shown = [name for name in reversed(FLOORS) if name in size]
    row = {name: 30 + ROW * number for number, name in enumerate(shown)}
    width, height = LEFT + BOX + 360, 40 + ROW * len(shown)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for (here, there), count in sorted(edges.items(), key=lambda item: item[1], reverse=True):
        up = goes_up(here, there)
        x, side, colour = (LEFT, -1, "#c0392b") if up else (LEFT + BOX, 1, "#5b7a99")
        begin, end = row[here] + 11, row[there] + 15
        bow = x + side * (20 + 0.42 * abs(end - begin))
        parts.append(
            f'<path d="M{x} {begin} C{bow:.0f} {begin} {bow:.0f} {end} {x} {end}" fill="none" stroke="{colour}" '
            f'stroke-width="{0.5 + count**0.5 / 2:.1f}" opacity="{0.9 if up else 0.45}">'
            f"<title>{here} imports {there}: {count}</title></path>"
        )
    for name, y in row.items():
        modules, lines = size[name]
        parts.append(
            f'<rect x="{LEFT}" y="{y}" width="{BOX}" height="26" rx="4" fill="#eef2f6" stroke="#8aa0b6"/>'
            f'<text x="{LEFT + 10}" y="{y + 17}" font-weight="bold">{name}</text>'
            f'<text x="{LEFT + BOX - 10}" y="{y + 17}" text-anchor="end" fill="#555555">'
            f"{modules} modules, {lines:,} lines</text>"
        )
    up = sum(count for edge, count in edges.items() if goes_up(*edge))
    note = f"{edges.total()} imports between packages: down on the right, up (in red) on the left: {up}"
    return "\n".join([*parts, f'<text x="{LEFT}" y="20" fill="#555555">{note}</text>', "</svg>", ""])


def main() -> None:
    """Prints the table and writes the drawing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="checkout to read")
    parser.add_argument("--out", type=Path, help="SVG file to write")
    words = parser.parse_args()
    size, edges = read_packages(words.root)
    print(table(size, edges))
    if words.out:
        words.out.write_text(drawing(size, edges))


if __name__ == "__main__":
    main()
