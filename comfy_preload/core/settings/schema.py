"""The format of the settings file, as pydantic models. `config/preload.schema.json` is generated from it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from comfy_preload.core.loader_table import short_form
from comfy_preload.core.node_types import Value
from comfy_preload.core.settings.glance import (
    ADVERTISED_URL,
    DEFAULT_HOLD_LIMIT,
    DEFAULT_MEMORY_SHARE,
    DEFAULT_PREFIX,
    MAX_PORT,
    MAX_READERS,
    MAX_SECONDS,
    REDIS_URL,
    REGISTRY_ID,
    REGISTRY_PREFIX,
)
from comfy_preload.core.text import stem

FileName = Annotated[str, StringConstraints(min_length=1, max_length=500)]
ClassName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
OverrideKey = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]+\.[^\x00-\x1f]+$", max_length=300)]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^/\x00-\x1f\x7f]+$")]


def _redis_url(value: str) -> str:
    if not REDIS_URL.fullmatch(value):
        raise PydanticCustomError(
            "redis_url",
            "a URL such as redis://host:6379/0, rediss://:${PASSWORD}@host:6380/0, redis+cluster://… or redis+sentinel://…",
        )
    return value


def _advertise_url(value: str) -> str:
    if not ADVERTISED_URL.fullmatch(value):
        raise PydanticCustomError(
            "advertise_url", "a URL such as http://${POD_IP}:8188, without user and password"
        )
    return value


def _without_password(value: Any) -> Any:
    """Remove a password: a value that is not a Redis URL is shown in a message."""
    return value if not isinstance(value, str) or REDIS_URL.fullmatch(value) else value.rpartition("@")[2]


def _mapping_or_nothing(value: Any) -> Any:
    """Return a mapping unchanged. A URL in its place would be shown in a message, so return {} instead."""
    return value if isinstance(value, dict) or value is None else {}


def _with_both_urls(value: Any) -> Any:
    if value is not None and not {"redis", "advertise"} <= value.keys():
        raise PydanticCustomError("registry_keys", "a mapping with the keys redis and advertise")
    return value


def _with_its_place(value: Any) -> Any:
    """Check that a provider that needs a path or a command has it."""
    given = value if isinstance(value, dict) else {}
    missing = {"command": "command", "file": "path"}.get(str(given.get("provider")))
    if missing and not given.get(missing):
        words = "a mapping with the key {key} beside provider"
        raise PydanticCustomError("snapshot_keys", words, {"key": missing})
    return value


def _yaml_off(value: Any) -> Any:
    """YAML 1.1 reads a bare `off` as false."""
    return "off" if value is False else value


class _Base(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class PrefetchOptions(_Base):
    """Read the model files into the page cache while ComfyUI still imports torch.

    Python's garbage collector is off meanwhile, and what was imported is left out of its later collections.
    """

    enabled: bool = True
    """false: files are read only when they are loaded, and the collector is left alone."""
    readers: Literal["auto"] | Annotated[int, Field(ge=1, le=MAX_READERS)] = "auto"
    """Number of threads that read. auto: one, or four once loading is waiting and four measure faster."""
    libraries: bool = True
    """Read the libraries that ComfyUI imports ahead, from the record of an earlier start (`python preload.py
    trace`)."""
    memory: float = Field(default=DEFAULT_MEMORY_SHARE, ge=0, le=1)
    """Share of the available memory (container limits count) that the prefetch may fill."""


class ProbeOptions(_Base):
    """The early probe: a second listener, which answers while ComfyUI still imports torch."""

    port: int | None = Field(default=None, ge=1, le=MAX_PORT)
    """Its port. Without a port there is no early probe."""


class RegistryOptions(_Base):
    """Report to other replicas, through Redis, which models are loaded here. See docs/registry.md."""

    redis: Annotated[str, AfterValidator(_redis_url), BeforeValidator(_without_password)] = Field(repr=False)
    """URL of Redis: redis://, or rediss:// for TLS. Use ${NAME} for the password."""
    advertise: Annotated[str, AfterValidator(_advertise_url), BeforeValidator(_without_password)]
    """URL at which gateways reach this ComfyUI: http://${POD_IP}:8188."""
    id: str | None = Field(default=None, pattern=f"^{REGISTRY_ID.pattern}$")
    """Name of this replica. Default: the machine's name and the advertised port."""
    prefix: str = Field(default=DEFAULT_PREFIX, pattern=f"^{REGISTRY_PREFIX.pattern}$")
    """Prefix of the keys in Redis: one for each fleet."""
    access: Literal["open", "token"] = "open"
    """Who may ask for the fleet. open: anyone who reaches a port. token: only with the commands' token."""


class SnapshotOptions(_Base):
    """Wait before the port opens until a platform has copied the process. See docs/snapshots.md."""

    when: Literal["imports", "loaded", "warm"] = "imports"
    """imports: all nodes are registered, no model is loaded. loaded: models are. warm: warm-ups have run."""
    provider: Literal["auto", "dynamo", "gvisor", "command", "file"] = "auto"
    """Who copies it. auto: NVIDIA Dynamo or gVisor, whichever is here; without either the start goes on."""
    path: FileName | None = None
    """The control directory of dynamo, gVisor's file, or the file of `provider: file`."""
    command: Annotated[list[FileName], Field(max_length=100)] = []
    """The program and its arguments, for `provider: command`."""
    environment: FileName | None = None
    """A file to read environment variables from after a restore. Default: /proc/gvisor/spec_environ."""
    limit: float = Field(default=DEFAULT_HOLD_LIMIT, gt=0, le=MAX_SECONDS)
    """Seconds to wait for an answer. Then the start goes on."""


class Options(_Base):
    """The keys of the settings file other than the lists of models and workflows."""

    when: Annotated[Literal["startup", "background", "off"], BeforeValidator(_yaml_off)] = "startup"
    """startup: load before the port opens. background: the port opens at once, and prompts wait. off: wait
    for reload."""
    on_error: Literal["unready", "serve", "exit"] = "unready"
    """If a required model fails. unready: /ready stays 503. serve: /ready is 200, degraded. exit: ComfyUI
    exits."""
    timeout: float = Field(default=600, gt=0, le=86_400)
    """Seconds for the whole preload. After that, models that are not loaded count as failed."""
    drain: float = Field(default=300, ge=0, le=86_400)
    """Seconds for running and queued prompts to finish after SIGTERM.

    Keep it below the pod's grace period.
    """
    commands: Annotated[Literal["loopback", "token", "off"], BeforeValidator(_yaml_off)] = "loopback"
    """Who may send commands. loopback: this machine, or with the token. token: only with it. off: nobody."""
    memory_floor: float = Field(default=0.05, ge=0, lt=1)
    """Share of the memory (container limits count). While less is available, optional models are released."""
    probe: ProbeOptions = ProbeOptions()
    """The early probe."""
    prefetch: PrefetchOptions = PrefetchOptions()
    """Reading files before they are loaded."""
    registry: Annotated[
        RegistryOptions | None, BeforeValidator(_with_both_urls), BeforeValidator(_mapping_or_nothing)
    ] = None
    """The registry of a fleet of replicas."""
    snapshot: Annotated[SnapshotOptions | None, BeforeValidator(_with_its_place)] = None
    """A copy of the process, taken by a platform before the port opens and restored elsewhere."""


class _Entry(_Base):
    """The keys that every entry of `models:` may have."""

    name: ModelName | None = None
    """The name used in /ready/{name} and the metrics. Default: the file's name without its extension."""
    required: bool = True
    """false: if it fails, /ready can still be 200, with the status 'degraded'."""
    device: Literal["gpu", "ram"] = "gpu"
    """gpu: move the weights to the compute device. ram: keep them in main memory until a prompt uses them."""

    KIND: ClassVar[str]
    """The key that identifies this kind of entry."""

    def call(self) -> tuple[str, dict[str, Value]]:
        """Return the loader node's class name and its inputs."""
        raise NotImplementedError

    def default_name(self) -> str:
        raise NotImplementedError


class _Shorthand(_Entry):
    """Every other key is an input of the loader node."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Value] = Field(init=False)  # pyright: ignore[reportIncompatibleVariableOverride]

    def files(self) -> list[str]:
        given: str | list[str] = getattr(self, self.KIND)
        return [given] if isinstance(given, str) else list(given)

    def call(self) -> tuple[str, dict[str, Value]]:
        files = self.files()
        loader = short_form(self.KIND, len(files))
        return loader.name, {**dict(zip(loader.files, files, strict=True)), **self.__pydantic_extra__}

    def default_name(self) -> str:
        return "+".join(stem(file) for file in self.files())


class CheckpointEntry(_Shorthand):
    """A checkpoint: UNet, text encoder and VAE in one file (CheckpointLoaderSimple)."""

    KIND = "checkpoint"
    checkpoint: FileName
    """File in models/checkpoints."""


class UnetEntry(_Shorthand):
    """A diffusion model alone (UNETLoader)."""

    KIND = "unet"
    unet: FileName
    """File in models/diffusion_models or models/unet."""


class ClipEntry(_Shorthand):
    """One to four text encoders (CLIPLoader, DualCLIPLoader, Triple…, Quadruple…)."""

    KIND = "clip"
    clip: FileName | Annotated[list[FileName], Field(min_length=1, max_length=4)]
    """File in models/text_encoders or models/clip, or a list of up to four."""


class VaeEntry(_Shorthand):
    """A VAE (VAELoader)."""

    KIND = "vae"
    vae: FileName
    """File in models/vae, or a tiny VAE's name such as taesd."""


class LoaderEntry(_Entry):
    """Any loader node of any plugin."""

    KIND = "loader"
    loader: ClassName
    """The node's class name, as in a workflow in API format."""
    inputs: dict[str, Value] = {}
    """Its inputs. Inputs that are left out take the node's defaults."""

    def call(self) -> tuple[str, dict[str, Value]]:
        return self.loader, dict(self.inputs)

    def default_name(self) -> str:
        files = [v for v in self.inputs.values() if isinstance(v, str) and "." in v]
        return "+".join(stem(file) for file in files) or self.loader


AnyEntry = CheckpointEntry | UnetEntry | ClipEntry | VaeEntry | LoaderEntry
ENTRIES: dict[str, type[AnyEntry]] = {
    one.KIND: one for one in (CheckpointEntry, UnetEntry, ClipEntry, VaeEntry, LoaderEntry)
}
"""By the key that identifies an entry's kind."""


class Shape(_Base):
    """One size to warm up with. A key that is left out keeps the workflow's value."""

    width: int | None = Field(default=None, ge=16, le=16_384)
    """Pixels."""
    height: int | None = Field(default=None, ge=16, le=16_384)
    """Pixels."""
    batch: int | None = Field(default=None, ge=1, le=4096)
    """Images per batch."""


class WorkflowEntry(_Base):
    """One or more workflow files: every loader in them is preloaded."""

    path: FileName
    """A file in UI or API format, a directory, or a pattern (`workflows/*.json`). Searched for in the folder
    of the settings file, then in ComfyUI's `user/default`."""
    warmup: bool = False
    """Run it once before /ready is 200, through ComfyUI's executor. Nothing is saved."""
    overrides: dict[OverrideKey, Value] = {}
    """Inputs to set for the warm-up: {"3.steps": 1} is the input `steps` of node 3."""
    shapes: Annotated[list[Shape], Field(max_length=16)] = []
    """Sizes to warm up with, one run for each. Without any: one run at the workflow's own size."""
    limit: float = Field(default=300, gt=0, le=86_400)
    """Seconds that one run of the warm-up may take. Then it is interrupted and reported."""
    budget: float | None = Field(default=None, gt=0, le=86_400)
    """Seconds that all runs of the warm-up may take. Shapes for which it does not suffice are left out."""
    verify: bool = False
    """Run each shape twice more and report first ÷ steady: above 1.05 the warm-up is 'degraded'."""
    required: bool = True
    """false: if a model or the warm-up fails, the status is 'degraded', not 'failed'."""
    device: Literal["gpu", "ram"] = "gpu"
    """As in `models`, for all of its loaders."""


class SettingsFile(Options):
    """config/preload.yaml of Comfy Preload."""

    models: list[AnyEntry] | None = None
    """Models to load, in order of importance."""
    workflows: list[WorkflowEntry] | None = None
    """Workflows whose models are loaded, after `models`."""


def json_schema() -> dict[str, Any]:
    """Return the JSON schema with which editors complete preload.yaml."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **SettingsFile.model_json_schema(),
    }
