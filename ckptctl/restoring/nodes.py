"""One object of a checkpoint's tree, rebuilt to hold what was saved of it.

A container has children and no values. What was saved as a variable becomes a `tf.Variable`, a lookup table a
`MutableHashTable`, Python state a `PythonState`. Anything else becomes a holder: TensorFlow restores its
tensors as it does any other's, but whether the class that saved them would take them is not proven.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from ckptctl.bundle.dtypes import STRING, dtype_name
from ckptctl.restoring.stored import Spec, Stored, array, known

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckptctl.bundle.graph import Node
    from ckptctl.restoring.outcome import Outcome
    from ckptctl.restoring.stored import Array

    Trackable = Any

_VALUE = "VARIABLE_VALUE"
_STATES = frozenset({"py_state", "OBJECT_CONFIG_JSON"})
"""Strings that are nothing but strings to a restore: Python's state, and the configuration Keras 2 adds."""

ATTRIBUTES = ".ATTRIBUTES/"
"""What stands in a key between the path of an object and what it calls the tensor."""

_TABLE = ["table-keys", "table-values"]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """An object.

    Attributes:
        trackable: What TensorFlow restores into.
        values: Its values after that, by the name of their tensor.
        doubt: Why a restore into it does not prove one into the object that was saved; "" if it does.
    """

    trackable: Trackable
    values: Callable[[], dict[str, Array]] = dict
    doubt: str = ""

    def compare(self, stored: Stored, outcome: Outcome) -> set[str]:
        """Compares what was restored with what is stored; returns the names of the tensors."""
        values = self.values()
        for name, value in values.items():
            stored.compare(name, value, outcome)
        return set(values)


@dataclass(frozen=True, slots=True)
class _RebuiltTable(Rebuilt):
    """A lookup table, which keeps no order."""

    def compare(self, stored: Stored, outcome: Outcome) -> set[str]:
        keys, values = self.values().items()
        order, stored_order = _order(keys[1]), _order(stored.value(keys[0]))
        for name, value in (keys, values):
            stored.compare(name, value[order], outcome, lambda whole: whole[stored_order])
        return {keys[0], values[0]}


def _order(keys: Array) -> Array:
    return np.argsort(keys.reshape(-1), kind="stable")


def rebuild(node: Node, tensors: dict[str, Spec], slots: Callable[[int], Trackable]) -> Rebuilt:
    """Makes an object, without its children.

    Args:
        node: It, as it was saved.
        tensors: What it saved, by key.
        slots: The object of a node, by its number: an optimizer is asked for its slot variables.
    """
    if node.registered_saver:
        doubt = f"was saved by {node.registered_saver!r}, a saver that its program registers"
        return Rebuilt(_Container(slots), doubt=doubt)
    if not tensors:
        return Rebuilt(_Container(slots))
    try:
        return _with_values(tensors, slots)
    except Exception as error:  # noqa: BLE001 - whatever TensorFlow raises where it cannot make one
        return Rebuilt(_Container(slots), doubt=f"cannot be made here: {brief(error)}")


def brief(error: BaseException) -> str:
    """The first line of an error, of bounded length.

    Raises:
        MemoryError: It says that memory lacks, which is no matter of what was being done.
    """
    if isinstance(error, (MemoryError, tf.errors.ResourceExhaustedError)):
        raise MemoryError from error  # noqa: TRY004 - nothing is wrong with its type
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:_BRIEF]}" if lines else type(error).__name__


_BRIEF = 300


def _with_values(tensors: dict[str, Spec], slots: Callable[[int], Trackable]) -> Rebuilt:
    """Makes an object that saves values."""
    for key, spec in tensors.items():
        if not known(spec.dtype):
            doubt = f"saves {_local(key)!r}, a {dtype_name(spec.dtype)}, which only its own class can take"
            return Rebuilt(_Container(slots), doubt=doubt)
    if len(tensors) == 1:
        ((key, spec),) = tensors.items()
        if _local(key) == _VALUE:
            return _variable(key, spec)
        if _local(key) in _STATES and (spec.dtype, spec.shape) == (STRING, ()):
            state = _State(slots)
            return Rebuilt(state, lambda: {key: array(state.value)})
    return _table(tensors) or _holder(tensors)


def _local(key: str) -> str:
    """What the object itself calls a tensor."""
    return key.partition(ATTRIBUTES)[2]


class _WithSlots:
    """What hands out the slot variables of a node that is an optimizer."""

    def __init__(self, slots: Callable[[int], Trackable]) -> None:
        self._slots = slots

    def _create_or_restore_slot_variable(
        self, slot_variable_position: Any, slot_name: str, variable: Trackable
    ) -> Trackable:
        """Is asked for by a restore, of whichever object has slot variables."""
        del slot_name, variable
        return self._slots(slot_variable_position.proto_id)


class _Container(_WithSlots, tf.__internal__.tracking.Trackable):  # type: ignore[misc]
    """An object with children, and perhaps slot variables."""


class _State(_WithSlots, tf.train.experimental.PythonState):  # type: ignore[misc]
    """Takes a string, as Python state does, or an optimizer that Keras 2 saved with its configuration."""

    value = b""

    def serialize(self) -> bytes:
        return self.value

    def deserialize(self, string_value: bytes) -> None:
        self.value = string_value


class _Holder(tf.__internal__.tracking.Trackable):  # type: ignore[misc]
    """Takes any tensors, under the names that they were saved with."""

    def __init__(self, empty: dict[str, Any]) -> None:
        self._empty = empty
        self.restored: dict[str, Any] = {}

    def _serialize_to_tensors(self) -> dict[str, Any]:
        return self._empty

    def _restore_from_tensors(self, restored_tensors: dict[str, Any]) -> None:
        self.restored = dict(restored_tensors)


def _zeros(spec: Spec) -> Any:
    dtype = tf.as_dtype(spec.dtype)
    if spec.dtype == STRING:
        return tf.fill(spec.shape, "")
    return tf.constant(np.zeros(spec.shape, dtype.as_numpy_dtype), dtype)


def _variable(key: str, spec: Spec) -> Rebuilt:
    variable = tf.Variable(_zeros(spec), trainable=False)
    return Rebuilt(variable, lambda: {key: array(variable.numpy())})


def _table(tensors: dict[str, Spec]) -> Rebuilt | None:
    """A lookup table, if that is what saved two tensors under these names."""
    names = sorted(tensors, key=_local)
    if [_local(name) for name in names] != _TABLE:
        return None
    key, value = (tensors[name] for name in names)
    if len(key.shape) != 1 or value.shape[:1] != key.shape:
        return None
    default = _zeros(Spec(value.dtype, value.shape[1:]))
    table = tf.lookup.experimental.MutableHashTable(tf.as_dtype(key.dtype), tf.as_dtype(value.dtype), default)
    return _RebuiltTable(
        table, lambda: dict(zip(names, (one.numpy() for one in table.export()), strict=True))
    )


def _holder(tensors: dict[str, Spec]) -> Rebuilt:
    holder = _Holder({_local(key): _zeros(spec) for key, spec in tensors.items()})
    said = ", ".join(repr(_local(key)) for key in list(tensors)[:3])
    return Rebuilt(
        holder,
        lambda: {key: array(holder.restored[_local(key)].numpy()) for key in tensors},
        f"saves {said}, which only its own class can take: its tensors were restored, it was not",
    )
