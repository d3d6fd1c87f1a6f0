"""Pages of the docs site that lie elsewhere in the repository, and notebooks as pages; `mkdocs.yml` names this file."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "license.md",
    "examples/own_judge/README.md": "own_judge.md",
    "examples/own_judge/own_judge.py": "own_judge_source.md",
    "examples/rl_loop.py": "rl_loop.md",
}
"""File of the repository -> its page."""

_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)|(?<=src=\")(?!\w+:)([^\"]+)|(?<=href=\")(?!\w+:|#)([^\"#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages from elsewhere, and one for each notebook, which stays to be downloaded."""
    root = Path(config.docs_dir).parent
    for source, page in PAGES.items():
        text = (root / source).read_text(encoding="utf-8")
        if source.endswith(".py"):
            text = f"# {Path(source).name}\n\n```python\n{text}```\n"
        elif not source.endswith(".md"):
            text = f"# {Path(source).name}\n\n```text\n{text}```\n"
        files.append(File.generated(config, page, content=text))
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        page = notebook.src_uri.removesuffix(".ipynb") + ".md"
        files.append(File.generated(config, page, content=notebook_page(Path(notebook.abs_src_path or ""))))
    return files


def notebook_page(path: Path) -> str:
    """A notebook as Markdown: its texts, its code in fences, and a link to the file."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    return "\n\n".join([*parts, f'<a href="../{path.name}" download>Download this page as a notebook.</a>']) + "\n"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links between files of the repository into links between pages."""
    here = {target: source for source, target in PAGES.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def link(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), found[0]))
        if target in PAGES:
            target = PAGES[target]
        elif target.startswith("docs/"):
            target = target.removeprefix("docs/")
        else:
            return found[0]
        if target.endswith(".ipynb"):
            target = target.removesuffix(".ipynb") + ".md"
        return posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".")

    blocks = re.split(r"(^```.*?^```$)", markdown, flags=re.M | re.S)
    return "".join(block if block.startswith("```") else _LINK.sub(link, block) for block in blocks)
