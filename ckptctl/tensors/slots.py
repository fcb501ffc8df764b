"""Which variables of an object graph are slots that an optimizer keeps for others.

Optimizers of TF1 and of Keras 2's `legacy` say so in their node. Those of Keras 3, and of Keras 2 since 2.11,
keep all their variables in one list, and only the variables' own names tell:

    a variable              its slot
    hidden/kernel           adam/hidden_kernel_momentum     Keras 3: the variable's path with _ for /
    hidden/kernel           Adam/m/hidden/kernel            Keras 2; without Adam where it was made eagerly

Answers to `keras/src/optimizers/base_optimizer.py` (`add_variable_from_reference`) and to
`tf_keras/src/optimizers/optimizer.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckptctl.bundle.graph import Node, ObjectGraph

KEPT_BY_OPTIMIZER = "_trainable_variables/"
"""What stands in the key of a model's variable that was saved as one of Keras 3's optimizer."""

_VARIABLES = "_variables"
_ITERATIONS = "_iterations"

_MAX_SPLITS = 8
"""How many words the name of a slot has at most."""


def is_optimizer(node: Node) -> bool:
    """Whether an object is an optimizer, of whichever kind."""
    return bool(node.slot_variables) or (_VARIABLES in node.children and _ITERATIONS in node.children)


def slots_of(graph: ObjectGraph) -> Iterator[tuple[int, str, int]]:
    """Yields for each slot the node of its variable, the slot's name, and its node."""
    lists: set[int] = set()
    for node in graph.nodes:
        for kept in node.slot_variables:
            yield kept.original_variable, kept.name, kept.slot_variable
        if is_optimizer(node) and _VARIABLES in node.children:
            lists.add(node.children[_VARIABLES])
    if not lists:
        return
    candidates = {child for number in lists for child in graph.nodes[number].children.values()}
    exact: dict[str, int | None] = {}
    flat: dict[str, int | None] = {}
    for number, node in enumerate(graph.nodes):
        name = _own_name(node)
        if name and number not in candidates:
            exact[name] = None if name in exact else number  # two of one name: there is no telling
            joined = name.replace("/", "_")
            flat[joined] = None if joined in flat else number
    for slot in sorted(candidates):
        found = _owner(_own_name(graph.nodes[slot]), exact, flat)
        if found is not None:
            yield *found, slot


def _own_name(node: Node) -> str:
    return node.attributes[0].full_name if len(node.attributes) == 1 else ""


def _owner(name: str, exact: dict[str, int | None], flat: dict[str, int | None]) -> tuple[int, str] | None:
    """The variable that a slot's own name tells, and what the slot is called."""
    rest = name.partition("/")[2]
    for text in (rest, name):
        slot, _, variable = text.partition("/")
        owner = exact.get(variable)
        if owner is not None:
            return owner, slot
    cut = len(rest)
    for _ in range(_MAX_SPLITS):
        cut = rest.rfind("_", 0, cut)
        if cut < 0:
            break
        owner = flat.get(rest[:cut])
        if owner is not None:
            return owner, rest[cut + 1 :]
    return None
