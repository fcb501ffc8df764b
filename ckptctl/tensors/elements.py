"""What is read from the shards of a listed checkpoint: its object graph, and the elements of its tensors.

What goes wrong is told with the checkpoint's name and with what to do next.
"""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING, Any

from ckptctl import posix
from ckptctl.bundle.graph import ObjectGraph, read_object_graph
from ckptctl.bundle.slices import WHOLE, check_cover
from ckptctl.bundle.values import iter_values, read_corners, read_tensor
from ckptctl.errors import BundleError, CkptctlError, UnreadableError, UnsupportedError
from ckptctl.tensors.slots import KEPT_BY_OPTIMIZER
from ckptctl.tensors.tree import layers_of
from ckptctl.units import format_bytes, format_count

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import numpy as np

    from ckptctl.bundle.entries import TensorEntry
    from ckptctl.bundle.index import Index
    from ckptctl.tensors.listing import Listing, Tensor

MAX_ELEMENTS = 2_000_000
"""A tensor of more is not shown whole: in numpy's hands a float takes 500 bytes on its way to a text."""

MAX_BYTES = 1 << 27
"""A tensor of more is not shown whole: this is the size of the largest object graph."""

SUMMARISED = 1000
"""Tensors of more elements are summarised, as numpy does by default."""

EDGE = 3
"""How many elements a summary shows at each edge of an axis; numpy's default."""

SHOWN_BYTES = 80
"""How many bytes of a string are shown."""

_BLOCK = 1 << 13
"""How many elements are yielded at once. In float64 they take half of what the allocator asks the system for
anew each time, so that computing with them takes a third of the time."""


def read_graph(listing: Listing) -> ObjectGraph | None:
    """Reads the object graph; None for a checkpoint that has none. See `ckptctl.bundle.graph`.

    Raises:
        UnreadableError: It cannot be read.
        BundleError: It is damaged.
    """
    if listing.index is None:
        return None
    with _told(listing):
        return read_object_graph(listing.index, listing.checkpoint.shard)


def read_layers(listing: Listing) -> dict[str, str]:
    """Tells the layer of each tensor by the object graph, if that is needed and the graph can be read.

    Keras 3 tracks a model's variables in its optimizer too, and where the way through the optimizer is the
    shorter one, they are all saved as `optimizer/_trainable_variables/0` and so on: then keys tell no layer.

    Returns:
        The layer by the tensor's key; empty where the keys have to do.
    """
    if any(KEPT_BY_OPTIMIZER in name for name in listing.tensors):
        with contextlib.suppress(CkptctlError):
            graph = read_graph(listing)
            return {} if graph is None else layers_of(graph)
    return {}


def read_variables(listing: Listing) -> dict[str, str]:
    """Tells what the variables of tensors are called themselves, if the object graph can be read.

    Returns:
        The variable's name, such as `sequential/dense/kernel`, by the tensor's key; empty without a graph.
    """
    with contextlib.suppress(CkptctlError):
        graph = read_graph(listing)
        attributes = () if graph is None else (one for node in graph.nodes for one in node.attributes)
        return {one.checkpoint_key: one.full_name for one in attributes}
    return {}


def read_elements(listing: Listing, tensor: Tensor) -> np.ndarray[Any, Any]:
    """Reads a tensor whole. See `ckptctl.bundle.values.read_tensor`.

    Raises:
        UnreadableError: It cannot be read, or has more than is shown at once; or the checkpoint is V1.
        BundleError: It is damaged, or has a shape that numpy does not know.
    """
    index, entry = _where(listing, tensor)
    if entry.elements > MAX_ELEMENTS or (tensor.bytes or 0) > MAX_BYTES:
        raise UnreadableError(
            f"{listing.path}: tensor {tensor.name!r} has {format_count(entry.elements, 'element')} in "
            f"{format_bytes(tensor.bytes or 0)}; --full prints at most {MAX_ELEMENTS:,} in "
            f"{format_bytes(MAX_BYTES)}. Leave out --full for a summary, or: "
            f"`ckptctl show --stats {shlex.quote(listing.path)}`"
        )
    with _told(listing):
        return read_tensor(index, entry, listing.checkpoint.shard)


def read_summary(listing: Listing, tensor: Tensor) -> np.ndarray[Any, Any]:
    """Reads what is shown of a tensor, which may be of any size. See `ckptctl.bundle.values.read_corners`.

    Returns:
        An array whose summary, with `EDGE` items at each edge, is the tensor's; or the tensor itself, if it
        has no more than `SUMMARISED` elements. Strings and variants are excerpts.

    Raises:
        UnreadableError: It cannot be read; or the checkpoint is V1.
        BundleError: It is damaged, or has a shape that cannot be summarised.
    """
    index, entry = _where(listing, tensor)
    edge = EDGE if entry.elements > SUMMARISED else SUMMARISED
    with _told(listing):
        return read_corners(index, entry, listing.checkpoint.shard, edge=edge, most=SHOWN_BYTES)


def stream_elements(listing: Listing, tensor: Tensor) -> Generator[np.ndarray[Any, Any], None, None]:
    """Yields the elements of a tensor of numbers, few at a time. See `ckptctl.bundle.values.iter_values`.

    The slices of a partitioned tensor follow each other in the order of where they begin; if `in_rows` holds,
    that is the row-major order of the elements.

    Raises:
        UnreadableError: It cannot be read; or the checkpoint is V1.
        BundleError: It is damaged.
    """
    index, entry = _where(listing, tensor)
    with _told(listing):
        if entry.slices:
            try:
                _check_parts(entry, tensor.parts)
            except BundleError as error:
                raise BundleError(f"{index.name}: tensor {tensor.name!r}: {error}") from error
            slices = sorted(entry.slices, key=lambda part: part.ranges(entry.shape))
            entry = entry._replace(slices=tuple(slices))
        for piece in iter_values(index, entry, listing.checkpoint.shard):
            for at in range(0, len(piece), _BLOCK):
                yield piece[at : at + _BLOCK]


def in_rows(entry: TensorEntry) -> bool:
    """Whether a tensor is stored whole, or in slices of whole rows."""
    return all(
        extent in {(0, WHOLE), (0, size)}
        for part in entry.slices
        for extent, size in zip(part.extents[1:], entry.shape[1:], strict=False)
    )


def check_decodable(listing: Listing) -> None:
    """Makes sure that a checkpoint is in a format whose elements can be read here.

    Raises:
        UnreadableError: It is a V1 checkpoint.
    """
    if listing.index is None:
        raise _undecoded(listing)


def _where(listing: Listing, tensor: Tensor) -> tuple[Index, TensorEntry]:
    if listing.index is None or tensor.entry is None:
        raise _undecoded(listing)
    return listing.index, tensor.entry


def _undecoded(listing: Listing) -> UnreadableError:
    return UnreadableError(
        f"{listing.path}: the values of a V1 checkpoint are not decoded here; `tf.train.load_checkpoint` "
        f"reads them, and `ckptctl show {shlex.quote(listing.path)}` shows names, dtypes and shapes"
    )


def _check_parts(entry: TensorEntry, parts: tuple[TensorEntry, ...]) -> None:
    """Makes sure that the slices of a partitioned tensor are it, each element once."""
    check_cover(entry.shape, entry.slices)
    for part, stored in zip(entry.slices, parts, strict=True):
        shape = tuple(end - begin for begin, end in part.ranges(entry.shape))
        if (stored.dtype, stored.shape) != (entry.dtype, shape):
            raise BundleError(f"slice {part} is stored with another dtype or shape")


@contextlib.contextmanager
def _told(listing: Listing) -> Iterator[None]:
    """Says what to do next where reading fails."""
    path = shlex.quote(listing.path)
    try:
        yield
    except UnsupportedError as error:
        raise UnsupportedError(f"{error}; `ckptctl show {path}` tells its dtype and shape") from error
    except BundleError as error:
        raise BundleError(f"{error}; see `ckptctl verify {path}`") from error
    except OSError as error:
        raise UnreadableError(
            f"{error.filename or listing.path}: {posix.reason(error)}; see `ckptctl verify {path}`"
        ) from error
    except MemoryError as error:
        raise UnreadableError(
            f"{listing.path}: there is not enough memory; `ckptctl show --stats` reads piece by piece"
        ) from error
