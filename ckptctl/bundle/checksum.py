"""CRC32C as TensorFlow stores it: masked, and put together from the checksums of parts.

A CRC that stands among the bytes it covers would make a poor check of those, so it is stored masked:
rotated right by 15 bits, plus a constant.

The CRC of a concatenation follows from the CRCs of its parts. As a polynomial over GF(2), the CRC of a
message followed by n zero bits is the CRC times x^n modulo the CRC's polynomial; the rest is an exclusive
or. So parts of one tensor can be read by several threads.

Answers to `tensorflow/core/lib/hash/crc32c.h`.
"""

from __future__ import annotations

import functools
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_POLYNOMIAL = 0x82F63B78  # Castagnoli; bit 31 is the coefficient of x^0, as in every value here
_ONE = 1 << 31
_MASK_DELTA = 0xA282EAD8
_UINT32 = 0xFFFFFFFF


def _native() -> Callable[[Any, int], int]:
    """The function of the package `crc32c`, whose `__init__` takes 25 ms to look up its own version."""
    package = PathFinder.find_spec("crc32c")
    spec = package and PathFinder.find_spec("crc32c._crc32c", package.submodule_search_locations)
    if spec is None or spec.loader is None:
        from crc32c import crc32c as function  # noqa: PLC0415 - it is installed in a way of its own

        return function
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[Any, int], int] = module.crc32c
    return found


_extend = _native()


def crc32c(data: bytes | bytearray | memoryview, crc: int = 0) -> int:
    """The CRC32C of what `crc` is the checksum of, followed by `data`. Other threads run meanwhile."""
    return _extend(data, crc)


def mask(crc: int) -> int:
    """A checksum as it is stored."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & _UINT32


def unmask(stored: int) -> int:
    """The checksum that is stored like this; the inverse of `mask`."""
    rotated = (stored - _MASK_DELTA) & _UINT32
    return (rotated >> 17 | rotated << 15) & _UINT32


def crc32c_combine(crc_a: int, crc_b: int, length_b: int) -> int:
    """The CRC32C of A followed by B.

    Args:
        crc_a: That of A.
        crc_b: That of B.
        length_b: The length of B in bytes.
    """
    return _multiply(_power_of_x(8 * length_b), crc_a) ^ crc_b


def _multiply(a: int, b: int) -> int:
    """The product a * b modulo the polynomial."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = a << 1 & _UINT32
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)  # times x
    return product


@functools.lru_cache(maxsize=64)  # parts have few different lengths
def _power_of_x(exponent: int) -> int:
    """x^exponent modulo the polynomial."""
    result, square = _ONE, _ONE >> 1
    while exponent:
        if exponent & 1:
            result = _multiply(square, result)
        square = _multiply(square, square)
        exponent >>= 1
    return result
