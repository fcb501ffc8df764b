"""Tests of ckptctl.writers; tests/test_trainers.py holds them against the real ones."""

from __future__ import annotations

import pytest

from ckptctl.model import ABSENT, Checkpoint, Details, Format, State, StateEntry, StateStatus, Status
from ckptctl.writers import writer_of

TIMED = State(StateStatus.OK, entries=(StateEntry("ckpt-1", "ckpt-1", timestamp=1.0),))
UNTIMED = State(StateStatus.OK, entries=(StateEntry("ckpt-1", "ckpt-1"),))
GRAPH = Details(1, 1, object_based=True)
COUNTED = Details(1, 1, object_based=True, counted=True)
LAYERS = Details(1, 1, object_based=True, layers=True)


@pytest.mark.parametrize(
    ("details", "state", "writer"),
    [
        (None, TIMED, None),
        (Details(1, 1), TIMED, "Saver"),
        (COUNTED, TIMED, "CheckpointManager"),
        (COUNTED, UNTIMED, "Checkpoint.save"),
        (COUNTED, ABSENT, "Checkpoint.save"),
        (LAYERS, UNTIMED, "Keras"),
        (GRAPH, ABSENT, "Checkpoint.write"),
    ],
)
def test_writer(details: Details | None, state: State, writer: str | None) -> None:
    """Contents and state together tell who wrote a checkpoint."""
    checkpoint = Checkpoint("ckpt-1", Format.V2, Status.COMPLETE, details=details)
    assert writer_of(checkpoint, state) == writer
