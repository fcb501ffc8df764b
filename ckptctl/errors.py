"""The exceptions that ckptctl raises. Each message names the file, what was expected, and what to do next."""

from __future__ import annotations


class CkptctlError(Exception):
    """The base of every error that ckptctl raises on purpose."""


class UnreadableError(CkptctlError):
    """A directory or a file is not there, or the system does not let us read it."""


class NoMetricError(UnreadableError):
    """No events files of a directory have a metric, or several runs do."""


class RefusedError(CkptctlError):
    """Going on might cost the user data, so nothing was done."""


class SavedModelError(RefusedError):
    """The directory belongs to a SavedModel."""


class LockedError(RefusedError):
    """Another ckptctl is at work in the directory."""


class PolicyError(CkptctlError):
    """A retention policy makes no sense: it is empty, or a number in it is out of range."""


class NoRuleError(PolicyError):
    """A policy has no rule."""


class TensorFlowError(CkptctlError):
    """TensorFlow could not be loaded."""


class BundleError(CkptctlError):
    """A checkpoint's index or data does not hold what the format asks for.

    The message says which file, which offset, and what was expected there.
    """


class UnsupportedError(BundleError):
    """A checkpoint is larger or newer than what is read here, which says nothing against it."""


class StoppedError(CkptctlError):
    """The work was broken off because it was asked to be, before anything was changed."""
