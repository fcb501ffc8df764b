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

from ckptctl.errors import (
    BundleError,
    CkptctlError,
    LockedError,
    PolicyError,
    RefusedError,
    TensorFlowError,
    UnreadableError,
)
from ckptctl.model import (
    Checkpoint,
    Decision,
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
from ckptctl.plan import Order, Protections, plan
from ckptctl.policy import Newest, Policy, Rule
from ckptctl.prune import prune
from ckptctl.scan import scan, scan_tree

__version__ = "0.1.0"

__all__ = [
    "BundleError",
    "Checkpoint",
    "CkptctlError",
    "Decision",
    "Directory",
    "Failure",
    "File",
    "FileKind",
    "Format",
    "LockedError",
    "Newest",
    "Order",
    "Plan",
    "Policy",
    "PolicyError",
    "Protections",
    "RefusedError",
    "Report",
    "Rule",
    "State",
    "StateEntry",
    "StateStatus",
    "Status",
    "TensorFlowError",
    "UnreadableError",
    "plan",
    "prune",
    "scan",
    "scan_tree",
]
