"""TensorFlow's data types: their names, and how wide an element is in a checkpoint.

Answers to `tensorflow/core/framework/types.proto`. Types of less than a byte (`int4`, `float4_e2m1fn`) take
a byte each, as they do in memory. NumPy is imported when values are asked for, not before.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckptctl.errors import BundleError

if TYPE_CHECKING:
    import numpy as np

STRING = 7
RESOURCE = 20
VARIANT = 21


class NumberKind(enum.Enum):
    """What an element is."""

    FLOAT = "float"
    COMPLEX = "complex"
    INTEGER = "integer"
    BOOL = "bool"


@dataclass(frozen=True, slots=True)
class DType:
    """A data type whose elements all have the same width.

    Attributes:
        name: As `tf.DType.name` has it.
        size: Bytes of an element.
        kind: What an element is.
        numpy: The name of the type in numpy or ml_dtypes whose values these are.
    """

    name: str
    size: int
    kind: NumberKind
    numpy: str


def _number(name: str, size: int, kind: NumberKind, numpy: str | None = None) -> DType:
    return DType(name, size, kind, numpy or name)


DTYPES = {
    1: _number("float32", 4, NumberKind.FLOAT),
    2: _number("float64", 8, NumberKind.FLOAT),
    3: _number("int32", 4, NumberKind.INTEGER),
    4: _number("uint8", 1, NumberKind.INTEGER),
    5: _number("int16", 2, NumberKind.INTEGER),
    6: _number("int8", 1, NumberKind.INTEGER),
    8: _number("complex64", 8, NumberKind.COMPLEX),
    9: _number("int64", 8, NumberKind.INTEGER),
    10: _number("bool", 1, NumberKind.BOOL),
    11: _number("qint8", 1, NumberKind.INTEGER, "int8"),
    12: _number("quint8", 1, NumberKind.INTEGER, "uint8"),
    13: _number("qint32", 4, NumberKind.INTEGER, "int32"),
    14: _number("bfloat16", 2, NumberKind.FLOAT),
    15: _number("qint16", 2, NumberKind.INTEGER, "int16"),
    16: _number("quint16", 2, NumberKind.INTEGER, "uint16"),
    17: _number("uint16", 2, NumberKind.INTEGER),
    18: _number("complex128", 16, NumberKind.COMPLEX),
    19: _number("float16", 2, NumberKind.FLOAT),
    22: _number("uint32", 4, NumberKind.INTEGER),
    23: _number("uint64", 8, NumberKind.INTEGER),
    24: _number("float8_e5m2", 1, NumberKind.FLOAT),
    25: _number("float8_e4m3fn", 1, NumberKind.FLOAT),
    26: _number("float8_e4m3fnuz", 1, NumberKind.FLOAT),
    27: _number("float8_e4m3b11fnuz", 1, NumberKind.FLOAT),
    28: _number("float8_e5m2fnuz", 1, NumberKind.FLOAT),
    29: _number("int4", 1, NumberKind.INTEGER),
    30: _number("uint4", 1, NumberKind.INTEGER),
    31: _number("int2", 1, NumberKind.INTEGER),
    32: _number("uint2", 1, NumberKind.INTEGER),
    33: _number("float4_e2m1fn", 1, NumberKind.FLOAT),
}
"""By their number in `types.proto`."""

_OF_NUMPY = frozenset(
    {"bool", "float16", "float32", "float64", "complex64", "complex128"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)

_OTHER_NAMES = {STRING: "string", RESOURCE: "resource", VARIANT: "variant"}


def dtype_name(number: int) -> str:
    """The name of a data type, as `tf.DType.name` has it; `dtype 99` for one that is not known here."""
    if number in DTYPES:
        return DTYPES[number].name
    return _OTHER_NAMES.get(number, f"dtype {number}")


def numpy_dtype(dtype: DType, *, big_endian: bool = False) -> np.dtype[Any]:
    """The numpy type of a data type's elements as they are in the file.

    Args:
        dtype: One of `DTYPES`.
        big_endian: Whether the file was written on a big-endian machine. The types of ml_dtypes know no
            byte order: elements of more than a byte have to be swapped before.

    Raises:
        BundleError: The installed ml_dtypes is too old for this type.
    """
    import numpy as np  # noqa: PLC0415 - numpy costs more than most commands

    if dtype.numpy in _OF_NUMPY:
        known: np.dtype[Any] = np.dtype(dtype.numpy).newbyteorder(">" if big_endian else "<")
        return known
    import ml_dtypes  # noqa: PLC0415 - see above

    try:
        custom: np.dtype[Any] = np.dtype(getattr(ml_dtypes, dtype.numpy))
    except AttributeError as error:
        version = ml_dtypes.__version__
        raise BundleError(f"ml_dtypes {version} does not know {dtype.numpy}: install a newer one") from error
    return custom
