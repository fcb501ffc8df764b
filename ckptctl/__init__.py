"""ckptctl: inspect, prove and prune TensorFlow checkpoint directories.

>>> import ckptctl
>>> directory = ckptctl.scan("run1")
>>> [checkpoint.name for checkpoint in directory.checkpoints]
['ckpt-1', 'ckpt-2', 'ckpt-3', 'ckpt-4']
>>> policy = ckptctl.Policy((ckptctl.Newest(3),))
>>> [decision.checkpoint.name for decision in ckptctl.plan(directory, policy).delete]
['ckpt-1']
>>> ckptctl.prune("run1", policy).deleted
('ckpt-1',)
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ckptctl.bundle.findings import Finding, FindingKind
    from ckptctl.chronology import Order
    from ckptctl.errors import (
        BundleError,
        CkptctlError,
        LockedError,
        PolicyError,
        RefusedError,
        SavedModelError,
        StoppedError,
        TensorFlowError,
        UnreadableError,
        UnsupportedError,
    )
    from ckptctl.model import (
        Checkpoint,
        Decision,
        Details,
        Directory,
        Failure,
        File,
        FileKind,
        Format,
        Plan,
        Report,
        State,
        StateEntry,
        StateStatus,
        Status,
    )
    from ckptctl.opened import OpenCheckpoint, open_checkpoint
    from ckptctl.plan import Protections, plan
    from ckptctl.policy import Newest, Policy, Rule
    from ckptctl.proof import Proofs
    from ckptctl.prune import prune
    from ckptctl.scan import scan, scan_tree
    from ckptctl.verify import Level, Verdict, VerdictStatus, verify

__version__ = "0.1.0"

__all__ = [
    "BundleError",
    "Checkpoint",
    "CkptctlError",
    "Decision",
    "Details",
    "Directory",
    "Failure",
    "File",
    "FileKind",
    "Finding",
    "FindingKind",
    "Format",
    "Level",
    "LockedError",
    "Newest",
    "OpenCheckpoint",
    "Order",
    "Plan",
    "Policy",
    "PolicyError",
    "Proofs",
    "Protections",
    "RefusedError",
    "Report",
    "Rule",
    "SavedModelError",
    "State",
    "StateEntry",
    "StateStatus",
    "Status",
    "StoppedError",
    "TensorFlowError",
    "UnreadableError",
    "UnsupportedError",
    "Verdict",
    "VerdictStatus",
    "open_checkpoint",
    "plan",
    "prune",
    "scan",
    "scan_tree",
    "verify",
]

_HOMES = {
    "bundle.findings": ("Finding", "FindingKind"),
    "errors": (
        "BundleError",
        "CkptctlError",
        "LockedError",
        "PolicyError",
        "RefusedError",
        "SavedModelError",
        "StoppedError",
        "TensorFlowError",
        "UnreadableError",
        "UnsupportedError",
    ),
    "model": (
        "Checkpoint",
        "Decision",
        "Details",
        "Directory",
        "Failure",
        "File",
        "FileKind",
        "Format",
        "Plan",
        "Report",
        "State",
        "StateEntry",
        "StateStatus",
        "Status",
    ),
    "opened": ("OpenCheckpoint", "open_checkpoint"),
    "chronology": ("Order",),
    "plan": ("Protections", "plan"),
    "policy": ("Newest", "Policy", "Rule"),
    "proof": ("Proofs",),
    "prune": ("prune",),
    "scan": ("scan", "scan_tree"),
    "verify": ("Level", "Verdict", "VerdictStatus", "verify"),
}
"""Where each name is from."""

_HOME = {name: module for module, names in _HOMES.items() for name in names}


class _Package(types.ModuleType):
    """Loads a name when it is asked for: `ckptctl --version` needs none of them.

    `ckptctl.scan` is a function, and the module that it is from has the same name. What Python does once that
    module is loaded, which is to make it an attribute of the package, is therefore not done.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{self.__name__}.{_HOME[name]}"), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
