"""Tables, sentences and JSON of the tensors of one checkpoint, and of two. No Click, no I/O.

JSON has no word for what is not finite: such numbers are the strings `NaN`, `Infinity` and `-Infinity`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

from ckptctl import render
from ckptctl.bundle.graph import OBJECT_GRAPH_KEY
from ckptctl.tensors.compare import Kind
from ckptctl.tensors.listing import VALUE_SUFFIX, short_names
from ckptctl.units import format_bytes, format_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ckptctl.tensors.compare import Comparison, Diff, Share
    from ckptctl.tensors.difference import Difference
    from ckptctl.tensors.listing import Listing, Tensor
    from ckptctl.tensors.statistics import Statistics
    from ckptctl.tensors.tree import Line, Tree

_HEADERS = ("name", "dtype", "shape", "parameters", "bytes", "shard")
_STATISTICS = ("min", "max", "mean", "std", "zeros", "nan", "inf")
_SHOWN_SHARDS = 4
_GAP = "  "
_GRAPH = OBJECT_GRAPH_KEY.decode()


def table(rows: Sequence[Sequence[str]], headers: Sequence[str], form: str, right: Iterable[int] = ()) -> str:
    """A table as `render.table` makes it.

    Tabulate takes 20 us a row, which is most of a second for a large model. So its `simple` format is written
    here, unless a cell holds what has to be escaped, or may be wider than its characters are many.
    """
    numeric = set(right)
    if form != "simple" or not all(text.isascii() and text.isprintable() for text in map("".join, rows)):
        return render.table(rows, headers, form, numeric)
    columns = list(zip(*rows, strict=True)) or [()] * len(headers)
    widths = [
        max(len(header) + 2, max(map(len, column), default=0))
        for header, column in zip(headers, columns, strict=True)
    ]
    line = _GAP.join(f"{{:{'>' if at in numeric else '<'}{width}}}" for at, width in enumerate(widths)).format
    rule = _GAP.join("-" * width for width in widths)
    return "\n".join([line(*headers).rstrip(), rule, *[line(*row).rstrip() for row in rows]])


def summary(listing: Listing, tensors: Sequence[Tensor]) -> str:
    """A checkpoint in one line, as it stands above the table of `show`."""
    of = "" if len(tensors) == len(listing.tensors) else f" of {len(listing.tensors):,}"
    parts = [f"{len(tensors):,}{of} tensor{'' if len(tensors) == 1 and not of else 's'}"]
    parts.append(format_count(sum(tensor.parameters for tensor in tensors), "parameter"))
    slots = sum(tensor.parameters for tensor in tensors if listing.is_slot(tensor))
    if slots:
        parts[-1] += f" ({slots:,} in optimizer slots)"
    if listing.index is None:
        parts.append("V1 format")
    else:
        size = format_bytes(sum(tensor.bytes or 0 for tensor in tensors))
        parts.append(f"{size} in {format_count(listing.index.header.num_shards, 'shard')}")
    return render.escape(f"{listing.path}: {', '.join(parts)}")


def tensor_table(listing: Listing, tensors: Iterable[Tensor], variables: Mapping[str, str], form: str) -> str:
    """The table of `show`; with a column of what the variables are called, where that is told."""
    short = short_names(listing.tensors)
    rows = [
        (
            short[tensor.name],
            tensor.dtype,
            _shape(tensor.shape),
            f"{tensor.parameters:,}",
            "" if tensor.bytes is None else f"{tensor.bytes:,}",
            _shards(tensor),
            *([variables.get(tensor.name, "")] if variables else []),
        )
        for tensor in tensors
    ]
    return table(rows, (*_HEADERS, *(["variable"] if variables else [])), form, right=(3, 4))


def statistics_table(
    listing: Listing, found: Mapping[str, Statistics], variables: Mapping[str, str], form: str
) -> str:
    """The table of `show --stats`; with `variables` as in `tensor_table`."""
    short = short_names(listing.tensors)
    rows = [
        (
            short[name],
            *[_number(getattr(one, column)) for column in _STATISTICS],
            *([variables.get(name, "")] if variables else []),
        )
        for name, one in found.items()
    ]
    headers = ("name", *_STATISTICS, *(["variable"] if variables else []))
    return table(rows, headers, form, right=range(1, 8))


def tensor_line(tensor: Tensor) -> str:
    """A tensor in one line, as it stands above its values."""
    return render.escape(f"{tensor.name}: {tensor.dtype} {_shape(tensor.shape)}")


def tree_table(listing: Listing, tree: Tree, form: str) -> str:
    """The table of `show --tree`."""
    rows = [_tree_row(line, listing) for line in tree.lines]
    text = table(rows, ("object", "dtype", "shape", "parameters", "variable"), form, right=(3,))
    return text + ("\n… and more, too much or too deep to be shown" if tree.cut else "")


def _tree_row(line: Line, listing: Listing) -> tuple[str, str, str, str, str]:
    name = f"{'  ' * line.depth}{'slot ' if line.slot else ''}{line.name.removesuffix(VALUE_SUFFIX)}"
    if line.same_as is not None:
        return f"{name} -> {line.same_as or '(root)'}", "", "", "", ""
    if line.tensor is None:
        return name, "", "", "", ""
    tensor = listing.tensors.get(line.tensor)
    if tensor is None:
        return name, "(not in the index)", "", "", line.variable
    return name, tensor.dtype, _shape(tensor.shape), f"{tensor.parameters:,}", line.variable


def diff_tables(diff: Diff, numbers: Mapping[str, Difference | None] | None, form: str) -> str:
    """What differs, tensor by tensor, then layer by layer; empty if nothing does."""
    differing = [one for kind in Kind if kind is not Kind.SAME for one in diff.of(kind)]
    if not differing:
        return ""
    headers = ["", "name", "dtype", "shape", "parameters"]
    short = short_names(one.name for one in diff.comparisons)
    rows = [_diff_row(one, short[one.name]) for one in differing]
    right = [4]
    if numbers is not None:
        headers += ["norm", "relative", "max abs", "differing"]
        right += [5, 6, 7, 8]
        rows = [
            row + _difference_row(numbers.get(one.name)) for row, one in zip(rows, differing, strict=True)
        ]
    layers = [_layer_row(layer, share) for layer, share in diff.by_layer().items() if share.changed_tensors]
    text = table(rows, headers, form, right)
    if layers:
        layer_headers = ("layer", "tensors", "parameters", "changed")
        text += "\n\n" + table(layers, layer_headers, form, right=(1, 2, 3))
    return text


def _diff_row(one: Comparison, name: str) -> list[str]:
    tensors = [tensor for tensor in (one.a, one.b) if tensor is not None]
    ours, others = tensors[0], tensors[-1]
    return [
        one.kind.value,
        name,
        _change(ours.dtype, others.dtype),
        _change(_shape(ours.shape), _shape(others.shape)),
        f"{one.parameters:,}",
    ]


def _change(a: str, b: str) -> str:
    return a if a == b else f"{a} -> {b}"


def _difference_row(one: Difference | None) -> list[str]:
    if one is None:
        return [""] * 4
    return [_number(one.norm), _number(one.relative), _number(one.max_abs), f"{one.differing:,}"]


def _layer_row(layer: str, share: Share) -> tuple[str, str, str, str]:
    return (
        layer or "(none)",
        f"{share.changed_tensors:,} of {share.tensors:,}",
        f"{share.changed_parameters:,} of {share.parameters:,}",
        _percent(share),
    )


def diff_summary(diff: Diff) -> list[str]:
    """What a comparison came to, in a few lines."""
    share = diff.total()
    tensors = f"{share.changed_tensors:,} of {format_count(share.tensors, 'tensor')}"
    parameters = f"{share.changed_parameters:,} of {format_count(share.parameters, 'parameter')}"
    unknown = diff.of(Kind.UNKNOWN)
    lines, of = [], f" of {diff.a} and {diff.b}"
    if len(unknown) < share.tensors or not unknown:  # else that none differs would be no news
        lines = [f"{tensors} and {parameters} ({_percent(share)}) differ between {diff.a} and {diff.b}"]
        of = ""
    if unknown:
        count = f"{len(unknown):,} of {format_count(share.tensors, 'tensor')}{of}"
        lines.append(f"{count} cannot be compared: {_why_unknown(unknown)}")
    if any(one.name == _GRAPH for one in diff.of(Kind.VALUES)):
        lines.append("the object graph differs: the objects themselves, or what they are called")
    return [render.escape(line) for line in lines]


def _why_unknown(unknown: Iterable[Comparison]) -> str:
    stored = {all(tensor is None or tensor.parts for tensor in (one.a, one.b)) for one in unknown}
    told = {
        False: "V1 stores no checksums",
        True: "checksums of other slices, or of another byte order, do not compare",
    }
    return "; ".join(words for which, words in told.items() if which in stored)


def _percent(share: Share) -> str:
    if not share.parameters:
        return "-"
    percent = 100 * share.changed_parameters / share.parameters
    return f"{percent:.1f} %"


def _shape(shape: Sequence[int]) -> str:
    return str(list(shape))


def _shards(tensor: Tensor) -> str:
    shards = sorted({part.shard_id for part in tensor.parts})
    return ", ".join(map(str, shards)) if len(shards) <= _SHOWN_SHARDS else f"{len(shards):,} shards"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


# --- JSON ------------------------------------------------------------------------------------------------


def dump(document: Mapping[str, Any]) -> str:
    """A document as JSON, each element of its lists in a line of its own.

    `json.dumps` with an indent takes a second where this takes a tenth.
    """
    members = []
    for key, value in document.items():
        text = json.dumps(value, allow_nan=False)
        if isinstance(value, list) and value:
            elements = ",\n    ".join([json.dumps(element, allow_nan=False) for element in value])
            text = f"[\n    {elements}\n  ]"
        members.append(f"  {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(members) + "\n}"


def listing_json(listing: Listing, tensors: Sequence[Tensor]) -> dict[str, Any]:
    """What `show --json` prints."""
    header = None
    if listing.index is not None:
        header = dataclasses.asdict(listing.index.header)
    sizes = [tensor.bytes for tensor in tensors if tensor.bytes is not None]
    return {
        "checkpoint": listing.path,
        "format": listing.checkpoint.format.value,
        "header": header,
        "tensors": [tensor_json(tensor) for tensor in tensors],
        "count": len(tensors),
        "parameters": sum(tensor.parameters for tensor in tensors),
        "slot_parameters": sum(tensor.parameters for tensor in tensors if listing.is_slot(tensor)),
        "bytes": sum(sizes) if listing.index is not None else None,
    }


def tensor_json(tensor: Tensor) -> dict[str, Any]:
    """A tensor in JSON; one that is partitioned, or in V1, has no single place and no single checksum."""
    whole = tensor.entry if tensor.entry is not None and not tensor.entry.slices else None
    document: dict[str, Any] = {
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": tensor.shape,
        "parameters": tensor.parameters,
        "bytes": tensor.bytes,
        "shard": whole and whole.shard_id,
        "offset": whole and whole.offset,
        "crc32c": whole and whole.crc32c,
    }
    if tensor.entry is not None and tensor.entry.slices:
        document["slices"] = [
            {
                "slice": str(part.slice),
                "shape": part.shape,
                "bytes": part.size,
                "shard": part.shard_id,
                "offset": part.offset,
                "crc32c": part.crc32c,
            }
            for part in tensor.parts
        ]
    return document


def statistics_json(one: Statistics) -> dict[str, Any]:
    """The statistics of a tensor in JSON."""
    return {name: plain(value) for name, value in dataclasses.asdict(one).items()}


def tree_json(tree: Tree) -> list[dict[str, Any]]:
    """A tree in JSON: its lines, from the top."""
    return [dataclasses.asdict(line) for line in tree.lines]


def diff_json(diff: Diff, numbers: Mapping[str, Difference | None] | None) -> dict[str, Any]:
    """What `diff --json` prints."""
    total = diff.total()
    changed = diff.of(Kind.DTYPE, Kind.SHAPE, Kind.VALUES)
    return {
        "a": diff.a,
        "b": diff.b,
        "added": [one.name for one in diff.of(Kind.ADDED)],
        "removed": [one.name for one in diff.of(Kind.REMOVED)],
        "changed": [one.name for one in changed],
        "unknown": [one.name for one in diff.of(Kind.UNKNOWN)],
        "same": [one.name for one in diff.of(Kind.SAME)],
        "changes": [_comparison_json(one, numbers) for one in diff.comparisons if one.kind is not Kind.SAME],
        "layers": [{"layer": layer, **dataclasses.asdict(share)} for layer, share in diff.by_layer().items()],
        **dataclasses.asdict(total),
    }


def _comparison_json(one: Comparison, numbers: Mapping[str, Difference | None] | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": one.name,
        "kind": one.kind.value,
        "a": None if one.a is None else {"dtype": one.a.dtype, "shape": one.a.shape},
        "b": None if one.b is None else {"dtype": one.b.dtype, "shape": one.b.shape},
        "parameters": one.parameters,
    }
    if numbers is not None:
        found = numbers.get(one.name)
        document["difference"] = found and {
            name: plain(value) for name, value in dataclasses.asdict(found).items()
        }
    return document


def plain(value: Any) -> Any:
    """A number as JSON can have it, and what else numpy's `tolist` gives."""
    if isinstance(value, list):
        return [plain(element) for element in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, complex):
        return [plain(value.real), plain(value.imag)]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
