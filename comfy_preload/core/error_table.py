"""Every error there is: a code, a sentence with the value found and the value expected, and a hint.

The one place for codes, texts, HTTP statuses and exit codes. `docs/errors.md` is generated from it, by
`python -m tools.errors_doc`. Codes are public API: once released they are never renamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ErrorKind:
    """One row of the table. `sentence` and `hint` are `str.format` templates with the same values."""

    meaning: str
    """When it occurs; a sentence of the docs."""
    sentence: str
    hint: str
    """What to do."""
    example: Mapping[str, object] = field(default_factory=dict[str, object])
    """Values for the templates, as shown in the docs."""
    more: str = ""
    """What the docs add to the hint; Markdown."""
    status: int = 400
    """HTTP status of an answer that is this error."""
    exit_code: int = 1
    """Exit code of the command line; 2 for errors in what was typed."""


@dataclass(frozen=True)
class Section:
    """Errors that belong together in the docs."""

    title: str
    errors: Mapping[str, ErrorKind]
    intro: str = ""


SETTINGS_FILE = Section(
    "The settings file",
    {
        "yaml_unreadable": ErrorKind(
            "The file that PRELOAD_CONFIG names, or config/preload.yaml, cannot be read.",
            "the settings file cannot be read: {reason}",
            "Check that PRELOAD_CONFIG names a readable file, or unset it.",
            {"reason": "no such file"},
        ),
        "yaml_syntax": ErrorKind(
            "The file is not valid YAML.",
            "the settings file is not valid YAML: {reason}",
            "{suggestion}",
            {
                "reason": "found character '\\t' that cannot start any token",
                "suggestion": "Indent with spaces, never with tabs.",
            },
            "Put names with backslashes, and those that begin with `[`, `{`, `@`, `%` or `!`, into single "
            "quotes: "
            "`'SDXL\\x.safetensors'`.",
        ),
        "yaml_too_large": ErrorKind(
            "The file, or its content with all anchors expanded, exceeds a limit.",
            "the settings file has {found}; at most {expected} are accepted",
            "Write the entries out without nested anchors, or split them over replicas.",
            {"found": "more than 100000 values once its anchors are expanded", "expected": "100000"},
            "The limits are in [settings.md](settings.md#limits).",
        ),
        "yaml_not_a_mapping": ErrorKind(
            "The document is a list or a single value.",
            "the settings file holds {found}; expected keys such as 'models:'",
            "Put the list under the key 'models:'.",
            {"found": "a list of 3 values"},
        ),
        "duplicate_key": ErrorKind(
            "A mapping has the same key twice.",
            "duplicate key '{key}'; first defined on line {first}",
            "Keep one of the two.",
            {"key": "timeout", "first": 3},
            "Until then the first one counts.",
        ),
        "unknown_key": ErrorKind(
            "The file format has no such key.",
            "unknown key '{key}'; expected one of: {expected}",
            "{suggestion}",
            {
                "key": "timeuot",
                "expected": "when, on_error, timeout, prefetch, models",
                "suggestion": "Did you mean 'timeout'?",
            },
            "All keys are in [settings.md](settings.md). An entry with an unknown key is not loaded; an "
            "unknown key of the file has no "
            "effect, but `/ready` stays 503.",
        ),
        "wrong_value": ErrorKind(
            "A value has the wrong type or is not one of those allowed.",
            "{key} is {found}; expected {expected}",
            "{suggestion}",
            {
                "key": "device",
                "found": "'GPU'",
                "expected": "'gpu' or 'ram'",
                "suggestion": "Did you mean 'gpu'?",
            },
            "Until it is corrected, the default counts for a key of the file, and an entry is not loaded.",
        ),
        "env_unset": ErrorKind(
            "A string uses ${NAME}, but the environment has no such variable.",
            "the environment variable {name} is not set",
            "Set it for the ComfyUI process, or write the value itself.",
            {"name": "MODEL"},
        ),
        "too_many_entries": ErrorKind(
            "There are more models or workflows than the limit.",
            "'{key}' lists {found} entries; the first {expected} are used",
            "List only what must be loaded at start-up.",
            {"key": "models", "found": 10000, "expected": 1000},
        ),
        "workflow_unclear": ErrorKind(
            "An entry of `workflows` does not name a file.",
            "an entry of 'workflows' has {found}; expected at least the key 'path'",
            "Write '- path: my-workflow.json'.",
            {"found": "only the keys: warmup"},
        ),
    },
    "Reported under the name `preload.yaml`. A problem inside an entry is reported under that entry's name.",
)

ENTRY = Section(
    "One entry",
    {
        "entry_unclear": ErrorKind(
            "An entry names no model, or several at once.",
            "an entry has {found}; expected exactly one of: checkpoint, unet, clip, vae, loader",
            "Give each model an entry ('- ') of its own.",
            {"found": "checkpoint and vae"},
        ),
        "name_taken": ErrorKind(
            "Two entries have the same name.",
            "the name '{name}' is already used by {first}",
            "Choose another name: names appear in /ready/{{name}}.",
            {"name": "sdxl", "first": "the entry on line 5"},
            "Until then a number is added to it.",
        ),
    },
)

HOST = Section(
    "An entry against this ComfyUI",
    {
        "loader_unknown": ErrorKind(
            "This ComfyUI has no node class of that name.",
            "loader '{loader}' is not among the {count} node classes of this ComfyUI",
            "{suggestion}",
            {"loader": "UNETLoder", "count": 412, "suggestion": "Did you mean 'UNETLoader'?"},
            "If a node pack provides it, look in ComfyUI's log whether that pack was imported: the hint "
            "names those that were "
            "not (`IMPORT FAILED`).",
        ),
        "loader_changes": ErrorKind(
            "The node asks ComfyUI to run it in every prompt, so its outputs must not be returned again.",
            "{loader} answers ComfyUI's IS_CHANGED with another value each time",
            "Remove the entry: each prompt loads the model itself.",
            {"loader": "RandomCheckpoint"},
            "Such a loader in a workflow is left to the prompts in the same way, and the workflow does not "
            "fail because of it. "
            "An `IS_CHANGED` or `fingerprint_inputs` that answers the same for the same file is respected: "
            "when its answer "
            "changes, the model is loaded again.",
        ),
        "loader_takes_model": ErrorKind(
            "The node needs the output of another node, so it cannot run by itself.",
            "loader '{loader}' needs a {type} from another node for its input '{input}'",
            "Preload the node that provides the {type} instead.",
            {"loader": "LoraLoader", "type": "MODEL", "input": "model"},
            "A LoRA on a preloaded model reads only the LoRA's file.",
        ),
        "input_unknown": ErrorKind(
            "The loader node has no such input.",
            "{loader} has no input '{input}'; expected one of: {expected}",
            "{suggestion}",
            {
                "loader": "UNETLoader",
                "input": "weight_dtyp",
                "expected": "unet_name, weight_dtype",
                "suggestion": "Did you mean 'weight_dtype'?",
            },
            "Plugins rename inputs between versions.",
        ),
        "input_missing": ErrorKind(
            "A required input without a default is missing.",
            "{loader} needs the input '{input}'",
            "Add '{input}:' to the entry.",
            {"loader": "VAELoader", "input": "vae_name"},
        ),
        "value_not_allowed": ErrorKind(
            "The loader node does not offer that value.",
            "{input} of {loader} is {found}; expected one of: {expected}",
            "{suggestion}",
            {
                "input": "weight_dtype",
                "loader": "UNETLoader",
                "found": "'fp8'",
                "expected": "default, fp8_e4m3fn, fp8_e4m3fn_fast, fp8_e5m2",
                "suggestion": "Choose one of those.",
            },
        ),
        "file_missing": ErrorKind(
            "No folder that ComfyUI searches has the file.",
            "{file} is {where} searched for {folder}",
            "{suggestion}",
            {
                "file": "flux1-dv.safetensors",
                "where": "in none of the 2 folders",
                "folder": "diffusion_models",
                "suggestion": "Nearest: flux1-dev.safetensors.",
            },
            "Correct the file name, with its sub-folder, or look at the mount. ComfyUI's "
            "`extra_model_paths.yaml` names further folders.",
        ),
    },
    "Found when all custom nodes are registered and before anything is loaded.",
)

FILE = Section(
    "The file of a model",
    {
        "file_unreadable": ErrorKind(
            "The file exists but cannot be opened.",
            "{file} cannot be read: {reason}",
            "Check the permissions and the mount of the model folder.",
            {"file": "ae.safetensors", "reason": "Permission denied"},
            "Directories and pipes are refused as well.",
        ),
        "file_empty": ErrorKind(
            "The file has no bytes.",
            "{file} is empty",
            "The download or copy did not finish: download the file again.",
            {"file": "ae.safetensors"},
        ),
        "file_not_safetensors": ErrorKind(
            "The file's name ends like safetensors, but its content is something else.",
            "{file} is not a safetensors file: it {found}",
            "{suggestion}",
            {
                "file": "ae.safetensors",
                "found": "starts like an HTML page",
                "suggestion": "A download answered with a web page; is a login needed?",
            },
            "A Git LFS pointer needs `git lfs pull`; a pickle needs the ending `.ckpt`.",
        ),
        "file_not_gguf": ErrorKind(
            "The file's name ends like GGUF, but its content is something else, or a version that no loader "
            "reads.",
            "{file} is not a readable GGUF file: it {found}",
            "{suggestion}",
            {
                "file": "flux1-dev-Q4_K_S.gguf",
                "found": "starts like an HTML page",
                "suggestion": "A download answered with a web page; is a login needed?",
            },
            "Versions 2 and 3 are read.",
        ),
        "file_truncated": ErrorKind(
            "The header describes more bytes than the file has, or fewer.",
            "{file} has {found} bytes; its header describes {expected}",
            "The download or copy did not finish: download the file again.",
            {"file": "ae.safetensors", "found": "104,857,600", "expected": "335,304,388"},
            "If it is still being copied, wait, then send the command `reload`.",
        ),
        "pickle_refused": ErrorKind(
            "The file is a pickle, and this ComfyUI would run the code in it.",
            "{file} is a pickle, which this ComfyUI does not load safely",
            "Convert it to safetensors, or update ComfyUI.",
            {"file": "sd-v1-4.ckpt"},
            "Newer versions read only the weights of a pickle.",
        ),
        "too_big": ErrorKind(
            "The models up to and including this one do not fit into memory.",
            "models up to {file} need {found}, but only {expected} is available",
            "Use an fp16 or fp8 file, list fewer models, or raise the memory limit.",
            {"file": "flux1-dev.safetensors", "found": "33.80 GB", "expected": "25.10 GB"},
            "Files are counted at their size on disk, in the order of the list; a model that still fits "
            "after a refused one is loaded.",
        ),
    },
    "Found in its first bytes, before anything is loaded.",
)

LOADING = Section(
    "Loading",
    {
        "load_failed": ErrorKind(
            "The loader node raised an error.",
            "{loader} raised {error}: {reason}",
            "The traceback is in ComfyUI's log. Check that the file is of the kind that this loader reads.",
            {
                "loader": "UNETLoader",
                "error": "RuntimeError",
                "reason": "ERROR: Could not detect model type of: ae.safetensors",
            },
        ),
        "load_refused": ErrorKind(
            "The file is a pickle that contains code; ComfyUI refuses to run it.",
            "{loader} refused the file: it holds more than weights",
            "Convert it to safetensors on a machine where its code may run.",
            {"loader": "CheckpointLoaderSimple"},
        ),
        "load_exit": ErrorKind(
            "The loader node tried to end the process.",
            "{loader} tried to end the process ({reason}); this was prevented",
            "The reason is in ComfyUI's log, just above.",
            {"loader": "MyLoader", "reason": 1},
            "ComfyUI goes on.",
        ),
        "load_output": ErrorKind(
            "The loader node returned something that cannot be kept.",
            "{loader} returned {found}; expected a tuple of outputs, or a dict with one under 'result'",
            "Only loader nodes that return their models directly can be preloaded.",
            {"loader": "MyLoader", "found": "a dict without a result"},
        ),
        "out_of_memory": ErrorKind(
            "Memory ran out while loading.",
            "memory ran out while {loader} was loading",
            "Use an fp16 or fp8 file, list fewer models, or give the process more memory.",
            {"loader": "UNETLoader"},
            "`device: ram` leaves a model in main memory.",
        ),
        "interrupted": ErrorKind(
            "Loading was cancelled from ComfyUI's interface.",
            "loading was interrupted from ComfyUI's interface",
            "Send the command 'reload' to load it; otherwise its first use loads it.",
        ),
        "timeout": ErrorKind(
            "Loading takes longer than `timeout`.",
            "not loaded within the {expected} s that 'timeout' allows",
            "Raise 'timeout', use faster storage, or look for a hanging mount.",
            {"expected": 600},
            "Loading goes on, and the error disappears when it is done.",
        ),
        "internal": ErrorKind(
            "An internal error of this plugin.",
            "internal error: {error} (see ComfyUI's log)",
            "Please report it with the traceback from ComfyUI's log.",
            {"error": "KeyError"},
            "It also occurs if the plugin does not fit the version of ComfyUI.",
            status=500,
        ),
    },
    "The other models are loaded all the same.",
)

WARM_UP = Section(
    "Warm-up",
    {
        "workflow_missing": ErrorKind(
            "There is no file at `path`, or no file matches its pattern.",
            "{path} is neither beside the settings file nor in ComfyUI's user folder",
            "Save the workflow there, or give a path that starts in one of these folders.",
            {"path": "portrait.json"},
        ),
        "override_unknown": ErrorKind(
            "`overrides` names a node or an input that the workflow does not have.",
            "the override '{found}' fits no node of {workflow}; expected one of: {expected}",
            "{suggestion}",
            {
                "found": "3.step",
                "workflow": "portrait.json",
                "expected": "3.seed, 3.steps, 3.cfg",
                "suggestion": "Did you mean '3.steps'?",
            },
            "It is the number of the node and the name of the input, as in the API format of the workflow.",
        ),
        "override_without_effect": ErrorKind(
            "`overrides` sets an input of a node that the warm-up does not run.",
            "the override '{found}' has no effect: the warm-up of {workflow} does not run that node",
            "Remove it. Nodes that only save or show, and nodes that lead to no output node, are not run.",
            {"found": "SaveImage.filename_prefix", "workflow": "portrait.json"},
            "It is a note: the warm-up runs.",
        ),
        "shape_without_effect": ErrorKind(
            "A size of `shapes` fits no node of the workflow, or is computed by other nodes.",
            "the shape '{found}' has no full effect on {workflow}: no node that makes a latent takes it",
            "Set it with 'overrides' at the node that the size comes from, or remove the shape.",
            {"found": "width: 768", "workflow": "portrait.json"},
            "It is a note: the warm-up runs.",
        ),
        "workflow_without_output": ErrorKind(
            "A warm-up needs an output node: one that saves, shows or samples.",
            "the workflow has no output node that ComfyUI could run",
            "Connect a node that saves or shows an image, or remove 'warmup'.",
        ),
        "warmup_needs_login": ErrorKind(
            "The workflow has partner nodes, which run on a server for a user who is logged in.",
            "the warm-up of {workflow} was skipped: {nodes} needs a user who is logged in",
            "Remove 'warmup' from this workflow. It works for users who are logged in.",
            {"workflow": "portrait.json", "nodes": "FluxProUltraImageNode"},
            "It is a note, not a failure: the state of the warm-up is `skipped`.",
        ),
        "warmup_file_missing": ErrorKind(
            "The workflow reads a file that a user uploaded, and ComfyUI's input folder does not have it.",
            "the warm-up of {workflow} needs {file} at node {node} ({node_type}), which is not in ComfyUI's "
            "input folder",
            "Put a small {kind} file of that name there, or name one with 'overrides'.",
            {
                "workflow": "dance.json",
                "file": "dance.mp4",
                "node": 3,
                "node_type": "LoadVideo",
                "kind": "video",
            },
            "Pictures and sounds are replaced by small ones during the warm-up.",
        ),
        "warmup_too_long": ErrorKind(
            "A run of a warm-up took longer than its `limit` and was interrupted.",
            "the warm-up of {workflow} ({shape}) was interrupted after {found} s; at most {expected} s are "
            "allowed",
            "Raise 'limit', or set fewer steps with 'overrides' and smaller sizes with 'shapes'.",
            {"workflow": "portrait.json", "shape": "1024x1024, batch 1", "found": 300, "expected": 300},
        ),
        "warmup_left_out": ErrorKind(
            "The `budget` of a warm-up did not suffice for all shapes, or an earlier warm-up does not end.",
            "the warm-up of {workflow} has {what}: {shapes}; {reason}",
            "Raise 'budget', list fewer 'shapes', the most important first, or set fewer steps with "
            "'overrides'.",
            {
                "workflow": "portrait.json",
                "what": "left out",
                "shapes": "832x1216, batch 1",
                "reason": "its budget of 60 s was used up",
            },
            "It is a note: the warm-up is warm for the other shapes. Without any other it is `degraded`.",
        ),
        "warmup_unsteady": ErrorKind(
            "`verify` found that the first prompt after a warm-up takes longer than the one after it.",
            "after the warm-up of {workflow} ({shape}) the first prompt took {found} times as long as the "
            "next; at most {expected} are expected",
            "Something is still prepared at the first prompt, or another program took the processor "
            "meanwhile: compare several starts. The command 'reload' measures again.",
            {"workflow": "portrait.json", "shape": "1024x1024, batch 1", "found": "1.31", "expected": "1.05"},
            "The status is `degraded`, and /ready is 200.",
        ),
        "warmup_failed": ErrorKind(
            "The warm-up run of a workflow did not complete.",
            "the warm-up of {workflow} stopped at node {node} ({node_type}): {reason}",
            "Run the workflow once in ComfyUI: it should fail there in the same way. The traceback is in "
            "ComfyUI's log.",
            {
                "workflow": "portrait.json",
                "node": 3,
                "node_type": "KSampler",
                "reason": "mat1 and mat2 shapes cannot be multiplied",
            },
        ),
    },
    "Reported under the name of the workflow.",
)

SERVING = Section(
    "While serving",
    {
        "command_too_early": ErrorKind(
            "A command arrived while models were being loaded or warmed up, or while the process was ending.",
            "cannot {command} while the status is '{found}'",
            "Wait until loading has finished, then send the command again.",
            {"command": "reload", "found": "loading"},
            "`Retry-After` is an estimate.",
            status=409,
        ),
        "model_unknown": ErrorKind(
            "A command or a probe names a model that the settings do not have.",
            "unknown model '{found}'; the settings have {count}",
            "{suggestion}",
            {"found": "sdxl_base", "count": 2, "suggestion": "GET /preload lists them all."},
            "In a URL the name is percent-encoded.",
            status=404,
        ),
        "command_refused": ErrorKind(
            "A command came neither from this machine nor with the token.",
            "the command was refused: {reason}",
            "Send it with 'Authorization: Bearer' and the token, or, with `commands: loopback`, from the "
            "same machine.",
            {"reason": "it came from another machine and without the token"},
            "Commands through a proxy, and from web pages of other sites, always need the token. HTTP status "
            "401 if a token "
            "is set.",
            status=403,
        ),
        "fleet_refused": ErrorKind(
            "The fleet is shown only with the token (`registry.access: token`).",
            "the fleet is not shown: {reason}",
            "Send 'Authorization: Bearer' and the token of commands.",
            {"reason": "the request came without the token"},
            "HTTP status 401 if a token is set.",
            status=403,
        ),
        "draining": ErrorKind(
            "The replica is about to end and takes no new prompts.",
            "this replica is about to end and takes no new prompts",
            "Send the prompt to another replica, or again after Retry-After.",
            more="It is the answer to `POST /prompt` after SIGTERM.",
            status=503,
        ),
        "too_many_commands": ErrorKind(
            "Commands, or wrong tokens, arrive too fast.",
            "more than {expected} commands in a minute",
            "Wait for the seconds in Retry-After.",
            {"expected": 120},
            "Refused commands are counted separately, so they do not use up the limit of the others.",
            status=429,
        ),
        "bad_request": ErrorKind(
            "The body of a command cannot be used.",
            "the body of the command is {found}; expected {expected}",
            "Send no body, or application/json such as a mapping with the key 'model'.",
            {"found": "not JSON", "expected": "a mapping such as {'model': 'name'}, or no body"},
            "Status 408 if it does not arrive in time, 413 if it is too large, 415 if it is not declared "
            "as JSON.",
        ),
        "job_unknown": ErrorKind(
            "There is no job with that id, or it is too old.",
            "unknown job '{found}'",
            "GET /preload lists the latest ones. Jobs are lost on restart.",
            {"found": "8f14e45f"},
            "The latest hundred can be asked for one by one.",
            status=404,
        ),
        "prompt_unknown": ErrorKind(
            "There is no prompt with that id among those that are kept.",
            "unknown prompt '{found}'; the last {kept} are kept",
            "POST /prompt returns the id. Prompts that wait and those of the plugin itself are not listed; a "
            "restart loses all.",
            {"found": "0f6c2d7e", "kept": 100},
            status=404,
        ),
        "path_unknown": ErrorKind(
            "The early probe was asked for a path that it does not have.",
            "the early probe does not serve {found}; available: {expected}",
            "Ask ComfyUI's own port: the early probe answers the plugin's GET routes only.",
            {"found": "/system_stats", "expected": "/ready, /ready/{name}, /livez, /preload"},
            "Status 405 for another method than `GET` and `HEAD`, 400 for something that is not a request.",
            status=404,
        ),
        "metrics_unavailable": ErrorKind(
            "Metrics need prometheus_client, which ComfyUI does not bring.",
            "prometheus_client is not installed",
            "Run 'pip install prometheus_client' with the Python of ComfyUI, then restart it.",
            status=501,
        ),
        "registry_off": ErrorKind(
            "The registry is not configured.",
            "the settings have no 'registry'",
            "Add 'registry' with the keys 'redis' and 'advertise', then restart ComfyUI.",
            more="See [registry.md](registry.md).",
            status=501,
        ),
        "registry_package_missing": ErrorKind(
            "The registry needs redis, a Python package that ComfyUI does not bring.",
            "the Python package redis is not installed",
            "Run 'pip install redis' with the Python of ComfyUI, then restart it. Everything else works "
            "without.",
        ),
        "registry_unavailable": ErrorKind(
            "Redis is unavailable. Loading and /ready do not depend on it.",
            "Redis {reason}",
            "Check 'redis' in the settings, and Redis itself. The connection is retried.",
            {"reason": "does not answer within 1 s"},
            "The first attempt comes after half a second, later ones every 15 to 22 seconds. Until then "
            "this replica knows only itself.",
        ),
        "registry_id_taken": ErrorKind(
            "Two replicas have the same id, so each overwrites the other's statement.",
            "another replica has the id '{found}' too",
            "Give each its own 'id' under 'registry', or leave it out and advertise different addresses.",
            {"found": "gpu-node-3:8188"},
            "The one that wrote last is listed.",
        ),
        "locate_unclear": ErrorKind(
            "The request does not name the models to locate.",
            "the request names {found} models; expected 1 to {expected}",
            "Ask for /preload/locate?model=NAME, percent-encoded; repeat model= for several.",
            {"found": 0, "expected": 16},
        ),
        "settings_changed": ErrorKind(
            "The settings file is not the one that was shown.",
            "the settings file was changed since its lines were shown",
            "Look at the change again, then add it.",
            status=412,
        ),
        "settings_not_written": ErrorKind(
            "Lines could not be added to the settings file.",
            "the settings file was not changed: {reason}",
            "Copy the lines into it by hand. Change a file from a ConfigMap where the ConfigMap is kept.",
            {"reason": "Read-only file system"},
            status=409,
        ),
        "reload_kept_old": ErrorKind(
            "A reload was not carried out, because it would have broken what works.",
            "the previous models and settings were kept: {reason}",
            "Fix the settings or the files, then reload again.",
            {"reason": "flux1-dv.safetensors is in none of the 2 folders searched for diffusion_models"},
        ),
        "reload_lacks": ErrorKind(
            "A reload took on the new plan, because nothing worked before, but not all of it could be "
            "loaded.",
            "the new plan is in place without {count}: {reason}",
            "Fix the settings or the files, then reload again.",
            {
                "count": "1 model",
                "reason": (
                    "notunet: notunet.safetensors is in none of the 2 folders searched for diffusion_models"
                ),
            },
            "Models of the old plan that the new one does not name were released.",
        ),
        "not_freed": ErrorKind(
            "Models should have left the device, but ComfyUI keeps them there.",
            "{found} are still on {device}",
            "ComfyUI runs with --gpu-only or --highvram, which keep models on the device. Restart it "
            "without.",
            {"found": "6.94 GB", "device": "cuda:0"},
        ),
        "not_restored": ErrorKind(
            "Models should have come back to the device, but not all of their weights are there.",
            "{count} models are not back on their device: {found}",
            "Check whether other processes fill the device. With dynamic VRAM only a warm-up brings weights "
            "back. "
            "The first prompt moves what it needs.",
            {"count": 2, "found": "flux, clip_l"},
        ),
        "device_fault": ErrorKind(
            "The compute device reported an error that no process recovers from.",
            "the device failed: {reason}",
            "Restart the process; a liveness probe at /livez does so. If it happens again, look at the "
            "driver's log.",
            {"reason": "CUDA error: an illegal memory access was encountered"},
        ),
        "event_loop_blocked": ErrorKind(
            "ComfyUI's event loop does not run: something in it blocks, so no request is answered.",
            "ComfyUI's event loop has not run for {found} s; expected at most {expected} s",
            "A node pack blocks it in a route or a background task; after 60 s /livez is 503. A stack shows "
            "where: py-spy dump.",
            {"found": 12, "expected": 10},
        ),
        "prompt_worker_ended": ErrorKind(
            "The thread of ComfyUI that runs prompts has ended: a node called sys.exit, for example.",
            "ComfyUI's prompt worker has ended; prompts wait and are never run",
            "The process must be restarted; a liveness probe at /livez does it. The log names the node that "
            "ended it.",
            {},
        ),
    },
    "Commands, and what goes wrong after the start. The answer to a request has the problem under "
    "`error`, see [http.md](http.md); a "
    "job has it when it is over.",
)

PROCESS_SNAPSHOT = Section(
    "Process snapshots",
    {
        "snapshot_not_announced": ErrorKind(
            "The provider cannot be reached: its directory or file is missing, read-only or full, or its "
            "command is not there.",
            "{provider} was not asked to copy this process: {reason}",
            "Mount the control directory so that ComfyUI's user can write into it, and check snapshot.path "
            "and snapshot.command.",
            {"provider": "dynamo", "reason": "Read-only file system"},
            "With gVisor the container needs the annotation `dev.gvisor.internal.checkpoint.enable`.",
        ),
        "snapshot_stale": ErrorKind(
            "The provider's directory or file holds an answer before anything was asked.",
            "there is an answer from before: {found}; expected none",
            "Give each pod a control directory of its own (emptyDir), or remove what an earlier process "
            "left.",
            {"found": "restore-complete"},
        ),
        "snapshot_unanswered": ErrorKind(
            "The provider did not answer in time.",
            "{provider} has not answered within {expected} s; the start goes on",
            "Check that the platform's agent runs on this node, or raise snapshot.limit.",
            {"provider": "dynamo", "expected": "600"},
            "Seconds in which the process was frozen do not count. A later answer is ignored.",
        ),
        "snapshot_failed": ErrorKind(
            "The provider reported that it made no copy, or its answer is an unknown word.",
            "{provider} did not copy this process: {reason}",
            "Look at the platform's own log; this process serves as if nothing had been.",
            {"provider": "command", "reason": "exit status 3"},
        ),
        "snapshot_busy": ErrorKind(
            "A thread still reads a model file, from storage that does not answer.",
            "a thread has been reading for {expected} s more; no copy of this process was asked for",
            "Check the storage of the models.",
            {"expected": "10"},
        ),
        "snapshot_not_wanted": ErrorKind(
            "This process is not one to copy.",
            "no copy of this process was asked for: {reason}",
            "Fix what the log reports before it, then start again.",
            {"reason": "flux1-dev is failed"},
            "Every replica would begin with what is missing here.",
        ),
        "snapshot_socket_open": ErrorKind(
            "A node pack has opened a connection or a listener before the hold.",
            "these ports are open: {found}; expected none",
            "Find the node pack that opens it at start-up; most platforms cannot copy a process with an open "
            "socket.",
            {"found": "8189 (LISTEN)"},
            "It is a warning in the log: the platform is asked all the same.",
        ),
    },
    "Waiting for a platform to copy the process ([snapshots.md](snapshots.md)). None of them stops the "
    "start or changes `/ready`; `/preload` has it under `snapshot`.",
)

COMMAND_LINE = Section(
    "Command line",
    {
        "comfyui_not_found": ErrorKind(
            "The command needs ComfyUI's folders and does not know where ComfyUI is.",
            "no ComfyUI found {place}",
            "Name the folder that has main.py: --comfyui DIR, or COMFYUI_PATH.",
            {"place": "two folders above the plugin"},
            exit_code=2,
        ),
        "comfyui_unusable": ErrorKind(
            "ComfyUI was found, but its list of model folders cannot be read.",
            "ComfyUI's model folders cannot be read: {error}: {reason}",
            "Check extra_model_paths.yaml, and run the command with ComfyUI's own Python.",
            {"error": "ModuleNotFoundError", "reason": "No module named 'yaml'"},
        ),
        "url_invalid": ErrorKind(
            "The URL is not valid.",
            "'{url}' is not a valid http(s) URL",
            "Write it like http://127.0.0.1:8188.",
            {"url": "127.0.0.1:8188"},
            exit_code=2,
        ),
        "server_unreachable": ErrorKind(
            "The server cannot be reached.",
            "the server does not answer {path}: {reason}",
            "Check the address, the port and whether ComfyUI is up.",
            {"path": "/object_info", "reason": "Connection refused"},
            "While models load at start-up the port is closed: `wait` for it first.",
        ),
        "server_answer": ErrorKind(
            "The server answers, but not as ComfyUI does.",
            "the server answered {path} with {found}; expected status 200 and JSON",
            "Check that it is ComfyUI's address, and not that of a proxy that requires a login.",
            {"path": "/history", "found": "status 401"},
        ),
        "capture_empty": ErrorKind(
            "The server's prompts contain nothing that could be preloaded.",
            "the {prompts} prompts of the history and queue have no loader node with inputs of its own",
            "Run your workflows there once, then capture again.",
            {"prompts": 0},
            "ComfyUI forgets its history when it ends.",
        ),
        "trace_unavailable": ErrorKind(
            "The system does not report which files a process has read.",
            "the start cannot be recorded: {reason}",
            "This needs Linux with /proc. Without a record it is guessed which libraries to read ahead.",
            {"reason": "No such file or directory"},
        ),
        "convert_input": ErrorKind(
            "Files of this kind are not converted.",
            "{file} cannot be converted: it {found}",
            "{suggestion}",
            {
                "file": "model.ckpt",
                "found": "may be a pickle with code in it",
                "suggestion": "Load it where its code may run, and save it as safetensors first.",
            },
        ),
        "convert_overflow": ErrorKind(
            "Some weights are too large for the new type and would become infinite.",
            "{found} finite numbers of {file} become infinite in {dtype}: {tensors}",
            "Use --dtype bf16, or --clamp to cut them to the largest number of the type.",
            {"found": 3, "file": "model.safetensors", "dtype": "fp16", "tensors": "decoder.up.3.weight (3)"},
            "bf16 has the range of fp32. Look at an image made with a clamped file.",
        ),
        "output_refused": ErrorKind(
            "The output file cannot be used.",
            "{file} {found}",
            "{suggestion}",
            {
                "file": "model-fp16.safetensors",
                "found": "exists already",
                "suggestion": "Choose another name, or --force to replace it.",
            },
            "The input itself is never replaced.",
            exit_code=2,
        ),
        "output_failed": ErrorKind(
            "The file could not be read or written to its end; the partial file was removed.",
            "{file} was not written: {reason}",
            "Check the free space and the permissions of its folder.",
            {"file": "model-fp16.safetensors", "reason": "No space left on device"},
        ),
    },
    "Reported by `python preload.py …` only; see [cli.md](cli.md).",
)

WORKFLOW = Section(
    "Reading workflows",
    {
        "workflow_syntax": ErrorKind(
            "The workflow file is not valid JSON.",
            "the workflow is not valid JSON: {reason}",
            "Save it again in ComfyUI: 'Save' or 'Export (API)'.",
            {"reason": "Expecting value: line 1 column 1 (char 0)"},
            "Of images, PNG and WebP files are read.",
        ),
        "workflow_unknown_format": ErrorKind(
            "The file is JSON, but not a workflow in one of ComfyUI's formats.",
            "the file holds {found}; expected 'nodes', or nodes with 'class_type'",
            "Save the workflow in ComfyUI: 'Save' or 'Export (API)'.",
            {"found": "a list"},
        ),
        "workflow_too_large": ErrorKind(
            "The workflow, or the graph with all subgraphs expanded, exceeds a limit.",
            "the workflow has {found}; at most {expected} are accepted",
            "Remove embedded data such as images, or split the workflow.",
            {"found": "104857600 bytes", "expected": "20971520"},
            "The limits are in [workflows.md](workflows.md#limits).",
        ),
        "workflow_version": ErrorKind(
            "The workflow was saved by an editor newer than this plugin knows.",
            "the workflow has schema version {found}; the newest supported is {expected}",
            "It was read as far as possible. If something is missing, use 'Export (API)' in ComfyUI, and "
            "update the plugin.",
            {"found": 2, "expected": 1},
        ),
        "workflow_node_invalid": ErrorKind(
            "An item in the node list is not a valid node.",
            "node {node} of the workflow was left out: {reason}",
            "Save the workflow again in ComfyUI.",
            {"node": 7, "reason": "it has no class_type"},
            "The other nodes are used.",
        ),
        "workflow_node_unknown": ErrorKind(
            "A node of the workflow has a class that is not installed.",
            "node {node} of the workflow was left out: its class '{type}' is not installed",
            "{suggestion}",
            {
                "node": "12:5",
                "type": "IPAdapterModelLoader",
                "suggestion": "Install the plugin that provides it.",
            },
            "If it is installed, look for `IMPORT FAILED` in ComfyUI's log. It is a warning: only a warm-up "
            "that needs "
            "the node fails.",
        ),
        "workflow_link_missing": ErrorKind(
            "A link of the workflow has no source.",
            "input '{input}' of node {node} is linked to nothing",
            "Open the workflow in ComfyUI, connect that input again, and save.",
            {"input": "model", "node": 3},
        ),
        "workflow_cycle": ErrorKind(
            "A node of the workflow needs its own result.",
            "node {node} of the workflow was left out: its inputs lead back to itself",
            "Open the workflow in ComfyUI and break the cycle.",
            {"node": 3},
            "A cycle may also lead through subgraphs, or be a subgraph that contains itself.",
        ),
        "workflow_node_unused": ErrorKind(
            "A node reads a model file, but no output node depends on it, so ComfyUI never runs it.",
            "no output node is reached from node {node} ({type})",
            "Connect it, or remove it from the workflow. Nothing has to be done.",
            {"node": 41, "type": "UNETLoader"},
        ),
        "workflow_file_inside": ErrorKind(
            "A node reads a model file as part of its own work and returns no model, so nothing can be "
            "preloaded.",
            "node {node} ({type}) reads its model file as it runs",
            "The first prompt loads it, or a warm-up: add 'warmup: true' to the workflow.",
            {"node": 12, "type": "RIFE VFI"},
        ),
        "workflow_value_computed": ErrorKind(
            "A value of a loader node is only known while the workflow runs.",
            "input '{input}' of {loader} (node {node}) is computed by other nodes",
            "Choose the value in the loader node itself, or list that model under 'models'.",
            {"input": "ckpt_name", "loader": "CheckpointLoaderSimple", "node": 4},
        ),
    },
    "What is supported is in [workflows.md](workflows.md).",
)

SECTIONS = (
    SETTINGS_FILE,
    ENTRY,
    HOST,
    FILE,
    LOADING,
    WARM_UP,
    SERVING,
    PROCESS_SNAPSHOT,
    COMMAND_LINE,
    WORKFLOW,
)
ERRORS: Mapping[str, ErrorKind] = {
    code: kind for section in SECTIONS for code, kind in section.errors.items()
}
