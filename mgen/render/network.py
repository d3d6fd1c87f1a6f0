"""A drawing of a network's layers, by torchview and Graphviz (extra `graph`)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mgen.errors import MgenError
from mgen.extras import import_extra

USER = "picture"


def check_drawing() -> None:
    """Checks that a network can be drawn here.

    Raises:
        MgenError: A package of the extra is missing, or the program of Graphviz.
    """
    import_extra("torchview", "graph", USER, "leave --picture out")
    import_extra("graphviz", "graph", USER, "leave --picture out")
    if shutil.which("dot") is None:
        raise MgenError(f"{USER}: the program dot is not installed; install Graphviz, or leave --picture out")


def network_graph(model: nn.Module, example: Tensor) -> Any:
    """The layers that an input goes through, as a graph of `graphviz`; its `source` is text."""
    torchview = import_extra("torchview", "graph", USER, "leave --picture out")
    training = model.training
    graph = torchview.draw_graph(model, input_data=example, expand_nested=True, depth=4).visual_graph
    model.train(training)
    return graph


def draw_network(model: nn.Module, example: Tensor, path: Path) -> None:
    """Writes a drawing; the suffix, .svg or .png, is its format."""
    image = network_graph(model, example).pipe(format=path.suffix[1:])
    path.write_bytes(image)
