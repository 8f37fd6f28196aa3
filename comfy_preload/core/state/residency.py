"""The store of loaded models: one slot, with a strong reference, for each planned call.

Only ComfyUI's prompt worker writes to it; it also runs our jobs. Every field is replaced whole, so that
readers in other threads need no lock. If two threads of another plugin call the same loader at once, both may
load; the later result is kept.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from comfy_preload.core.host import FileStamp, Finished, ModelFile, Outputs
from comfy_preload.core.machine import memory
from comfy_preload.core.node_types import LoaderSpec
from comfy_preload.core.planning.call import call_key
from comfy_preload.core.state.evidence import NOT_SERVED, Evidence, LoaderUse, Reason, nearest_call
from comfy_preload.core.state.slot import Loaded, Slot, Stage, file_stamp, heals


@dataclass
class Residency:
    """The slots in the plan's order. Implements `Watcher`: intercepted loader nodes consult it."""

    repair: Callable[[Outputs], None]
    usable: Callable[[Outputs], str]
    files: Callable[[LoaderSpec, Mapping[str, Any]], tuple[ModelFile, ...]] = lambda *_: ()
    """Returns the files that these inputs name, as they are now."""
    held: Callable[[Outputs], int] = lambda _: 0
    """Returns how many bytes of these outputs an accelerator holds."""
    values: Callable[[Outputs], tuple[Any, ...]] = lambda _: ()
    """Returns what outputs hold, one value for each output of the node."""
    collect: Callable[[], None] = lambda: None
    """Gives the memory of outputs that were let go of back to the system."""
    slots: tuple[Slot, ...] = ()
    misses: Counter[str] = field(default_factory=Counter[str])
    """Calls of intercepted loaders that had to run, other than the preload's own, by class name."""
    evidence: Evidence = field(default_factory=Evidence)
    prompt: Callable[[], str] = str
    """Returns the id of the user's prompt that runs in this thread, or an empty text."""
    _by_key: dict[str, Slot] = field(default_factory=dict[str, Slot])
    _asked: float = 0.0
    """When a loader last had to run."""
    _replaced: bool = False
    """A model was replaced by the prompt that runs; until it ends, ComfyUI's cache may hold the old one."""

    def reset(self, slots: Iterable[Slot]) -> None:
        """Adopt the slots of a new plan."""
        self.slots = tuple(slots)
        self.expect(())

    def expect(self, slots: Iterable[Slot]) -> None:
        """Also store the outputs of these slots' loaders, although they are not part of the plan yet."""
        both = (*self.slots, *slots)
        self._by_key = {s.key or s.call.target.key: s for s in both if s.call.target and heals(s.call)}

    def identify_by(self, slot: Slot, arguments: Mapping[str, Any]) -> bool:
        """Expect this slot's loader to be called with these arguments, some of them made by other nodes.

        Returns False if no later call can be known to be the same.
        """
        if slot.call.target is None:
            return False
        slot.key = self._key(slot.call.target.spec, arguments)
        if slot.key:
            self._by_key[slot.key] = slot
        return bool(slot.key)

    def slot_of(self, spec: LoaderSpec, arguments: Mapping[str, Any]) -> Slot | None:
        """Return the slot of this call, if the plan has it."""
        return self._by_key.get(self._key(spec, arguments))

    def _key(self, spec: LoaderSpec, arguments: Mapping[str, Any]) -> str:
        return call_key(spec.class_id, arguments, self._known)

    def _known(self, value: Any) -> str | None:
        """Return a text for a value that a preloaded call returned: it is the same object in every prompt."""
        for slot in self.slots:
            held = self.values(slot.loaded.outputs) if slot.loaded else ()
            for number, one in enumerate(held):
                if one is value:
                    return f"output {number} of {slot.key or (slot.call.target and slot.call.target.key)}"
        return None

    def drop(self, slot: Slot) -> None:
        """Take a slot out of the plan."""
        slot.dropped = True
        self.slots = tuple(one for one in self.slots if one is not slot)
        self._by_key = {key: one for key, one in self._by_key.items() if one is not slot}

    def find(self, name: str) -> Slot | None:
        return next((slot for slot in self.slots if slot.call.name == name), None)

    def stamp_again(self) -> None:
        """Adopt the inode numbers of files whose size and date are the same: a restore changes them.

        A file that was replaced keeps its old stamp, and so counts as replaced.
        """
        for slot in self.slots:
            now = file_stamp(slot.call.paths) if slot.loaded else None
            if slot.loaded and now and [one[:2] for one in now] == [one[:2] for one in slot.loaded.stamp]:
                slot.loaded = replace(slot.loaded, stamp=now)

    # -- Watcher ------------------------------------------------------------------------------

    def recall(self, spec: LoaderSpec, arguments: Mapping[str, Any], changes: str) -> Outputs | None:
        slot = self._by_key.get(self._key(spec, arguments))
        stamp = file_stamp(slot.call.paths) if slot else None
        # a missing file was not replaced: the model in memory is still valid
        if slot and slot.loaded and stamp in (slot.loaded.stamp, None) and changes == slot.loaded.changes:
            slot.hits += 1
            slot.used = time.monotonic()
            self._note(LoaderUse(spec.name, slot.call.name, "hit", held=self.held(slot.loaded.outputs)))
            self.repair(slot.loaded.outputs)
            return slot.loaded.outputs
        if slot is None or slot.stage is not Stage.LOADING:
            self.misses[spec.name] += 1
            self._note_miss(spec, arguments, slot, stamp)
        if slot and slot.loaded:
            slot.release()  # its file was replaced: the old weights must not stay beside the new ones
        self._asked = time.perf_counter()
        if slot:
            slot.opened = (self._asked, stamp or ())
        return None

    def rest(self) -> None:
        """Note that no prompt runs."""
        self.evidence.rest(self._held())
        if self._replaced:
            self._replaced = False
            memory.trim()

    def _held(self) -> dict[str, int]:
        return {slot.call.name: self.held(slot.loaded.outputs) for slot in self.slots if slot.loaded}

    def finish(
        self,
        over: Finished,
        cached: Iterable[tuple[LoaderSpec, Mapping[str, Any]]] = (),
        *,
        alone: bool = True,
    ) -> None:
        """Note that a user's prompt is over.

        Args:
            over: The prompt.
            cached: Its loader calls that ComfyUI's own cache answered.
            alone: No other prompt has run since the last `rest`.
        """
        uses = [
            LoaderUse(spec.name, slot.call.name if slot else None, "cached")
            for spec, slot in ((spec, self._by_key.get(self._key(spec, given))) for spec, given in cached)
        ]
        done = self.evidence.finish(over, uses, self._held(), alone=alone)
        names = {use.model for use in done.uses if use.reason not in ("input", "not_planned")}
        for slot in self.slots:
            if over.worked and slot.loaded and slot.call.name in names:
                slot.served = slot.served.add(over.ran)

    def _note(self, use: LoaderUse) -> None:
        if prompt := self.prompt():
            self.evidence.note(prompt, use)

    def _note_miss(
        self, spec: LoaderSpec, arguments: Mapping[str, Any], slot: Slot | None, stamp: FileStamp | None
    ) -> None:
        reason: Reason
        if slot is None:
            same = [
                one.call
                for one in self.slots
                if one.call.target and one.call.target.spec.class_id == spec.class_id
            ]
            model, reason, message = nearest_call(spec.name, arguments, same)
        elif slot.loaded is None:
            model, reason, message = slot.call.name, "not_loaded", f"its state was {slot.stage.value}"
        elif stamp not in (slot.loaded.stamp, None):
            model, reason, message = slot.call.name, "file", "the file was replaced after it was loaded"
        else:
            model, reason, message = slot.call.name, "changed", f"{spec.name} asked to run again"
        missed = slot or (self.find(model) if model else None)
        if missed:
            missed.last_miss = f"{reason}: {message}"
        # what it is about to return is on no accelerator yet
        self._note(LoaderUse(spec.name, model, "miss", reason, message, held=0))

    def keep(self, spec: LoaderSpec, arguments: Mapping[str, Any], changes: str, outputs: Outputs) -> None:
        slot = self._by_key.get(self._key(spec, arguments)) or self._moved(spec, arguments, outputs)
        if slot is None or self.usable(outputs):
            return
        began, stamp = slot.opened
        if slot.call.problems and slot.call.target:  # its file was missing or broken, and is no longer
            found = self.files(spec, slot.call.target.inputs)
            slot.call = replace(
                slot.call, target=replace(slot.call.target, files=found, changes=changes), problems=()
            )
            stamp = file_stamp(file.path for file in found) or ()
        before = slot.loaded
        same_model = before is not None and self._share(before.outputs, outputs)
        slot.loaded = Loaded(outputs, stamp, time.perf_counter() - began, changes)
        if not same_model:
            slot.was_resident = False
            slot.served = NOT_SERVED
            slot.warm_seconds = None
            slot.warm_bytes = slot.taken = 0
        slot.used = time.monotonic()
        slot.problems = ()
        slot.stage = Stage.LOADED
        if before is not None and not same_model:
            del before
            self.collect()
            self._replaced = True

    def _share(self, outputs: Outputs, others: Outputs) -> bool:
        """Return whether any object, such as a model, is in both."""
        held = {
            id(value) for value in self.values(outputs) if not isinstance(value, str | int | float | None)
        }
        return any(id(value) in held for value in self.values(others))

    def _moved(self, spec: LoaderSpec, arguments: Mapping[str, Any], outputs: Outputs) -> Slot | None:
        """Return the slot of the same files that is to hold these outputs from now on, or None.

        Packs whose loaders see the graph keep models by node id and drop those whose node is not in the
        prompt (Efficient Loader). The slot would hold a second copy beside what they load then.
        """
        key = self._key(spec, arguments)
        if not spec.sees_graph or not key or self.usable(outputs):
            return None
        paths = {file.path for file in self.files(spec, arguments)}
        same = [
            slot
            for slot in self.slots
            if slot.stage in (Stage.LOADED, Stage.RELEASED, Stage.FAILED)
            and slot.call.target
            and slot.call.target.spec.class_id == spec.class_id
            and set(slot.call.paths) == paths
        ]
        if not same or not paths:
            return None
        slot = min(same, key=lambda one: one.used)
        self._by_key = {k: one for k, one in self._by_key.items() if one is not slot} | {key: slot}
        slot.key = key
        slot.opened = (self._asked, file_stamp(paths) or ())
        return slot
