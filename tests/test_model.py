"""Random lives of a directory against a small reference: what restores is there, and what is protected stays.

The checkpoints are real bundles; saves, damage, prunes, pins and repairs come in any order. The reference
knows what was done to each checkpoint, and nothing of how ckptctl finds out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import fabricate
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ckptctl import pins, tensorflow
from ckptctl.errors import CkptctlError, RefusedError, UnreadableError
from ckptctl.policy import Newest, Policy
from ckptctl.proof import Proofs
from ckptctl.prune import prune
from ckptctl.repair import repair
from ckptctl.scan import scan
from ckptctl.verify import Level

_INCOMPLETE = ("short shard", "no shard", "short index")
_LEVELS = st.sampled_from([Level.INDEX, Level.DATA])


@dataclass
class Saved:
    """What the reference knows of a checkpoint.

    Attributes:
        name: Its name.
        at: When it was saved; later ones are newer, and have higher numbers.
        damage: What was done to it.
        pinned: Whether it is pinned.
    """

    name: str
    at: float
    damage: set[str] = field(default_factory=set)
    pinned: bool = False

    def passes(self, level: Level) -> bool:
        """Whether it is whole, as far as a level can tell."""
        return not self.damage & {*_INCOMPLETE, *(("flipped",) if level is Level.DATA else ())}


class Lives(RuleBasedStateMachine):
    """One directory."""

    @initialize()
    def begin(self) -> None:
        """An empty directory."""
        tensorflow.use(tensorflow.Reader.PROTOBUF)
        self.clock = pytest.MonkeyPatch()
        fabricate.set_clock(self.clock, "ckptctl.scan")  # so that damage is not taken for a save under way
        self.path = Path(tempfile.mkdtemp())
        self.there: list[Saved] = []
        self.listed: list[str] = []
        self.latest: str | None = None
        self.last_preserved = 0.0  # up to then what no list names may have been left to be kept for ever
        self.count = 0

    def teardown(self) -> None:
        """Nothing stays behind."""
        tensorflow.use(tensorflow.Reader.TENSORFLOW)
        self.clock.undo()
        shutil.rmtree(self.path, ignore_errors=True)

    def _write_state(self) -> None:
        lines = [f'model_checkpoint_path: "{self.latest}"']
        lines += [f'all_model_checkpoint_paths: "{name}"' for name in self.listed]
        (self.path / "checkpoint").write_text("\n".join(lines) + "\n")

    @rule(listed=st.booleans(), shards=st.integers(1, 3))
    def save(self, listed: bool, shards: int) -> None:  # noqa: FBT001 - drawn by Hypothesis
        """A trainer saves under a new name, and tells the state file or does not."""
        self.count += 1
        saved = Saved(f"ckpt-{self.count}", fabricate.EPOCH + 60.0 * self.count)
        fabricate.checkpoint(self.path, saved.name, at=saved.at, shards=shards)
        self.there.append(saved)
        if listed or not self.listed:
            # A trainer lists what it saved itself; what is unlisted in between would stand before all that.
            self.listed = [one.name for one in self.there]
            self.latest, self.last_preserved = saved.name, 0.0
            self._write_state()

    @precondition(lambda self: self.there)
    @rule(data=st.data(), how=st.sampled_from([*_INCOMPLETE, "flipped"]))
    def damage(self, data: st.DataObject, how: str) -> None:
        """Something happens to a checkpoint, long ago by its files' times."""
        one = data.draw(st.sampled_from(self.there))
        index, shard = (
            self.path / f"{one.name}.index",
            min(self.path.glob(f"{one.name}.data-*"), default=None),
        )
        if shard is None:
            return
        if how == "no shard":
            shard.unlink()
        elif how == "short index":
            index.write_bytes(index.read_bytes()[:-9])
        elif how == "short shard":
            shard.write_bytes(shard.read_bytes()[:50])
        else:
            shard.write_bytes(b"x" + shard.read_bytes()[1:])
        for file in self.path.glob(f"{one.name}.*"):
            os.utime(file, (one.at, one.at))
        one.damage.add(how)

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def pin(self, data: st.DataObject) -> None:
        """A user pins a checkpoint."""
        one = data.draw(st.sampled_from(self.there))
        pins.pin(str(self.path), [one.name])
        one.pinned = True

    @precondition(lambda self: any(one.pinned for one in self.there))
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        """And changes his mind."""
        one = data.draw(st.sampled_from([one for one in self.there if one.pinned]))
        pins.unpin(str(self.path), [one.name])
        one.pinned = False

    @rule(keep=st.integers(1, 4), level=_LEVELS)
    def prune(self, keep: int, level: Level) -> None:
        """What stays is what the reference says, no more and no less."""
        passing = [one for one in self.there if one.passes(level)]
        stay = {one.name for one in passing[-keep:]}
        stay |= {one.name for one in self.there if one.pinned or one.name == self.latest}
        unlisted = [one for one in self.there if one.name not in {*self.listed, self.latest}]
        stay |= {one.name for one in unlisted if one.at <= self.last_preserved}
        newest = passing[-1].at if passing else 0.0
        stay |= {one.name for one in self.there if not one.passes(level) and one.at > newest}
        report = prune(self.path, Policy((Newest(keep),)), proofs=Proofs(level))
        assert not report.failed
        assert set(report.deleted) == {one.name for one in self.there} - stay
        self.there = [one for one in self.there if one.name in stay]
        self.listed = [name for name in self.listed if name in stay or name == self.latest]

    @rule(level=_LEVELS)
    def repair(self, level: Level) -> None:
        """Afterwards the latest is one that passes, or nothing has changed."""
        before = fabricate.contents(self.path)
        try:
            repair(self.path, proofs=Proofs(level))
        except (RefusedError, UnreadableError):
            assert fabricate.contents(self.path) == before
            return
        state = tensorflow.get_checkpoint_state(str(self.path), "checkpoint")
        assert state is not None
        self.listed = [os.path.basename(path) for path in state.all_model_checkpoint_paths]
        self.latest = os.path.basename(state.model_checkpoint_path)  # listed, unless it is pinned
        self.last_preserved = state.last_preserved_timestamp
        named = next(one for one in self.there if one.name == self.latest)
        assert named.passes(level) or level is Level.INDEX
        assert named.passes(Level.INDEX)
        for path in self.path.glob("checkpoint.bak-*"):
            path.unlink()

    @rule()
    def lose_the_state(self) -> None:
        """Somebody deletes the state file."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / "checkpoint").unlink()
        self.listed = []
        self.latest, self.last_preserved = None, 0.0

    @invariant()
    def what_is_there_is_told(self) -> None:
        """A scan sees each checkpoint as the reference has it."""
        if not hasattr(self, "path"):
            return
        try:
            found = {one.name: one for one in scan(self.path).checkpoints if one.on_disk}
        except CkptctlError as error:
            raise AssertionError from error
        assert set(found) == {one.name for one in self.there}
        for one in self.there:
            assert found[one.name].complete == one.passes(Level.INDEX), one
            assert found[one.name].pinned == one.pinned
            assert found[one.name].latest == (one.name == self.latest)


Lives.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestLives = Lives.TestCase
