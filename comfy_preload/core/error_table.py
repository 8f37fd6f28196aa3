"""Every error there is: a code, a sentence with the value found and the value wanted, and a hint.

One table, so that a code is never spelled twice and `docs/errors.md` can be checked against it.
Codes are public API: once released they are never renamed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorKind:
    """One row of the table. `sentence` and `hint` are `str.format` templates."""

    meaning: str
    sentence: str
    hint: str


ERRORS: dict[str, ErrorKind] = {
    # --- the YAML as a whole -------------------------------------------------------------------
    "yaml_unreadable": ErrorKind(
        "The file that PRELOAD_CONFIG names, or config/preload.yaml, cannot be read.",
        "the settings file cannot be read: {reason}",
        "Check that PRELOAD_CONFIG names a readable file, or unset it.",
    ),
    "yaml_syntax": ErrorKind(
        "The file is not YAML.",
        "the settings file is not valid YAML: {reason}",
        "{suggestion}",
    ),
    "yaml_too_large": ErrorKind(
        "The file, or what its anchors expand to, is beyond any sensible size.",
        "the settings file has {found}; at most {wanted} are accepted",
        "Write the entries out without nested anchors, or split them over replicas.",
    ),
    "yaml_not_a_mapping": ErrorKind(
        "The document is a list or a single value.",
        "the settings file holds {found}; wanted keys such as 'models:'",
        "Put the list under the key 'models:'.",
    ),
    "duplicate_key": ErrorKind(
        "The same key stands twice in one mapping.",
        "key '{key}' stands twice, first in line {first}",
        "Keep one of the two.",
    ),
    "unknown_key": ErrorKind(
        "A key that the file format does not know.",
        "unknown key '{key}'; wanted one of: {wanted}",
        "{suggestion}",
    ),
    "wrong_value": ErrorKind(
        "A value of the wrong type or outside the allowed ones.",
        "{key} is {found}; wanted {wanted}",
        "{suggestion}",
    ),
    "env_unset": ErrorKind(
        "A string uses ${NAME}, but the environment has no such variable.",
        "the environment variable {name} is not set",
        "Set it for the ComfyUI process, or write the value itself.",
    ),
    "too_many_entries": ErrorKind(
        "More models or workflows than the limit.",
        "'{key}' lists {found} entries; the first {wanted} are used",
        "List only what must be loaded at start-up.",
    ),
    # --- one entry -----------------------------------------------------------------------------
    "entry_unclear": ErrorKind(
        "An entry names no model, or several at once.",
        "an entry has {found}; wanted exactly one of: checkpoint, unet, clip, vae, loader",
        "Give each model an entry ('- ') of its own.",
    ),
    "workflow_unclear": ErrorKind(
        "An entry of `workflows` does not name a file.",
        "an entry of 'workflows' has {found}; wanted at least the key 'path'",
        "Write '- path: my-workflow.json'.",
    ),
    "workflow_missing": ErrorKind(
        "No file is where `path` says, or no file matches its pattern.",
        "{path} is neither beside the settings file nor in ComfyUI's user folder",
        "Save the workflow there, or give a path that starts in one of these folders.",
    ),
    "override_unknown": ErrorKind(
        "`overrides` names a node or an input that the workflow does not have.",
        "the override '{found}' fits no node of {workflow}; wanted one of: {wanted}",
        "{suggestion}",
    ),
    "warmup_failed": ErrorKind(
        "The warm-up run of a workflow did not complete.",
        "the warm-up of {workflow} stopped at node {node} ({node_type}): {reason}",
        "Run the workflow once in ComfyUI: what fails there fails here. The traceback is in ComfyUI's log.",
    ),
    "name_taken": ErrorKind(
        "Two entries have the same name.",
        "the name '{name}' is already used by {first}",
        "Names appear in /ready/{name}: choose another.",
    ),
    # --- the entry against this ComfyUI ----------------------------------------------------------
    "loader_unknown": ErrorKind(
        "This ComfyUI has no node class of that name.",
        "loader '{loader}' is not among the {count} node classes of this ComfyUI",
        "{suggestion}",
    ),
    "loader_changes": ErrorKind(
        "The node asks ComfyUI to run it in every prompt, so what it loaded once must not be handed out again.",
        "{loader} answers ComfyUI's IS_CHANGED with another value each time",
        "Remove the entry: each prompt loads the model itself.",
    ),
    "loader_takes_model": ErrorKind(
        "The node needs the output of another node, so it cannot be run by itself.",
        "loader '{loader}' needs a {type} from another node for its input '{input}'",
        "Preload the node that makes the {type} instead.",
    ),
    "input_unknown": ErrorKind(
        "The loader node has no such input.",
        "{loader} has no input '{input}'; it has: {wanted}",
        "{suggestion}",
    ),
    "input_missing": ErrorKind(
        "A required input without a default is not given.",
        "{loader} needs the input '{input}'",
        "Add '{input}:' to the entry.",
    ),
    "value_not_allowed": ErrorKind(
        "The loader node does not offer that value.",
        "{input} of {loader} is {found}; wanted one of: {wanted}",
        "{suggestion}",
    ),
    "file_missing": ErrorKind(
        "No folder that ComfyUI searches has the file.",
        "{file} is {where} searched for {folder}",
        "{suggestion}",
    ),
    # --- the file ------------------------------------------------------------------------------
    "file_unreadable": ErrorKind(
        "The file is there but cannot be opened.",
        "{file} cannot be read: {reason}",
        "Check the permissions and the mount of the model folder.",
    ),
    "file_empty": ErrorKind(
        "The file has no bytes.",
        "{file} is empty",
        "The download or copy did not finish: fetch it again.",
    ),
    "file_not_safetensors": ErrorKind(
        "The name says safetensors, the content does not.",
        "{file} is not a safetensors file: it {found}",
        "{suggestion}",
    ),
    "file_not_gguf": ErrorKind(
        "The name says GGUF, the content does not, or it is of a version that no loader reads.",
        "{file} is not a GGUF file that can be read: it {found}",
        "{suggestion}",
    ),
    "file_truncated": ErrorKind(
        "The header promises more bytes than the file has, or fewer.",
        "{file} has {found} bytes; its header describes {wanted}",
        "The download or copy did not finish: fetch it again.",
    ),
    "too_big": ErrorKind(
        "The models up to and including this one do not fit into memory.",
        "with {file} the models need {found}; available are {wanted}",
        "Use an fp16 or fp8 file, list fewer models, or raise the memory limit.",
    ),
    # --- loading -------------------------------------------------------------------------------
    "load_failed": ErrorKind(
        "The loader node raised an error.",
        "{loader} raised {error}: {reason}",
        "The traceback is in ComfyUI's log. Does the file belong to this kind of loader?",
    ),
    "load_refused": ErrorKind(
        "The file is a pickle with code in it; ComfyUI refuses to run it.",
        "{loader} refused the file: it holds more than weights",
        "Convert it to safetensors on a machine that may run it.",
    ),
    "load_exit": ErrorKind(
        "The loader node tried to end the process.",
        "{loader} called for the process to exit ({reason}); that was prevented",
        "Look for the reason in ComfyUI's log, just above.",
    ),
    "load_output": ErrorKind(
        "The loader node returned something that cannot be kept.",
        "{loader} returned {found}; expected a tuple of outputs, or a dict with one under 'result'",
        "Only loader nodes that return their models directly can be preloaded.",
    ),
    "out_of_memory": ErrorKind(
        "Memory ran out while loading.",
        "memory ran out while {loader} was loading",
        "Use an fp16 or fp8 file, list fewer models, or give the process more memory.",
    ),
    "interrupted": ErrorKind(
        "Someone pressed cancel while models were loading.",
        "loading was interrupted from ComfyUI's interface",
        "Send the command 'reload' to load it; until then it is loaded on first use.",
    ),
    "timeout": ErrorKind(
        "Loading takes longer than `timeout`. It goes on; the error goes away when it is done.",
        "not loaded within the {wanted} s that 'timeout' allows",
        "Raise 'timeout', use faster storage, or look for a hanging mount.",
    ),
    # --- commands and what happens while serving ------------------------------------------------
    "command_too_early": ErrorKind(
        "A command came while models were still being loaded or warmed up, or while the process ends.",
        "{command} is not possible while the status is '{found}'; wanted a preload that has settled",
        "Ask /ready until it settles, then send it again.",
    ),
    "model_unknown": ErrorKind(
        "A command or a probe names a model that no entry has.",
        "there is no model '{found}' among the {count} of the settings",
        "{suggestion}",
    ),
    "command_refused": ErrorKind(
        "A command was neither sent from this machine nor with the token.",
        "the command was refused: {reason}",
        "Send it with 'Authorization: Bearer' and the token, or, with `commands: loopback`, from the same machine.",
    ),
    "draining": ErrorKind(
        "The replica is about to end and takes no new prompts.",
        "this replica is about to end and takes no new prompts",
        "Send the prompt to another replica, or again after Retry-After.",
    ),
    "too_many_commands": ErrorKind(
        "Commands, or wrong tokens, come too fast.",
        "more than {wanted} commands in a minute",
        "Wait as long as Retry-After says.",
    ),
    "bad_request": ErrorKind(
        "The body of a command cannot be used.",
        "the body of the command is {found}; wanted {wanted}",
        "Send no body, or application/json such as a mapping with the key 'model'.",
    ),
    "job_unknown": ErrorKind(
        "No job has that id, or too many came after it.",
        "there is no job '{found}'",
        "GET /preload lists the last ones. None is kept over a restart.",
    ),
    "path_unknown": ErrorKind(
        "The early port was asked for something that it does not answer.",
        "nothing is answered to {found}; wanted {wanted}",
        "Ask ComfyUI's own port: the early one answers the plugin's questions and takes no commands.",
    ),
    "metrics_unavailable": ErrorKind(
        "Metrics need prometheus_client, which ComfyUI does not bring.",
        "prometheus_client is not installed",
        "Run 'pip install prometheus_client' with the Python of ComfyUI, then restart it.",
    ),
    # --- the registry ---
    "registry_off": ErrorKind(
        "Replicas are asked for, but this one does not know of any.",
        "the settings have no 'registry'",
        "Add 'registry' with the keys 'redis' and 'advertise', then restart ComfyUI.",
    ),
    "registry_package_missing": ErrorKind(
        "The registry needs redis, a Python package that ComfyUI does not bring.",
        "the Python package redis is not installed",
        "Run 'pip install redis' with the Python of ComfyUI, then restart it. Everything else works without.",
    ),
    "registry_unavailable": ErrorKind(
        "Redis is of no use just now. Loading and /ready do not depend on it.",
        "Redis {reason}",
        "Check 'redis' in the settings, and Redis itself; it is tried again and again.",
    ),
    "registry_id_taken": ErrorKind(
        "Two replicas go by one name, so each overwrites what the other says of itself.",
        "another replica goes by the id '{found}' too",
        "Give each its own 'id' under 'registry', or leave it out and advertise different addresses.",
    ),
    "locate_unclear": ErrorKind(
        "The question does not say which model is looked for.",
        "the question names {found} models; wanted 1 to {wanted}",
        "Ask for /preload/locate?model=NAME, percent-encoded; repeat model= for several.",
    ),
    "settings_changed": ErrorKind(
        "The settings file is not the one that was shown.",
        "the settings file was changed since its lines were shown",
        "Look at the change again, then add it.",
    ),
    "settings_not_written": ErrorKind(
        "Lines could not be added to the settings file.",
        "the settings file is left as it is: {reason}",
        "Copy the lines into it by hand. A file from a ConfigMap is changed where it is kept.",
    ),
    "reload_kept_old": ErrorKind(
        "A reload was not carried out, since it would have broken what works.",
        "the old plan was kept: {reason}",
        "Mend the settings or the files, then send reload again.",
    ),
    "reload_lacks": ErrorKind(
        "A reload took on the new plan, since nothing worked before, but not all of it could be loaded.",
        "the new plan is in place without {count}: {reason}",
        "Mend the settings or the files, then send reload again.",
    ),
    "not_freed": ErrorKind(
        "Models were told to leave the device but ComfyUI keeps them there.",
        "{found} are still on {device}",
        "ComfyUI runs with --gpu-only or --highvram: it keeps models on the device. Restart it without.",
    ),
    "not_restored": ErrorKind(
        "Models were to be brought back to the device, and not all of their weights are there.",
        "{count} models are not back on their device: {found}",
        "Is the device full, with other processes on it? With dynamic VRAM only a warm-up brings weights back. "
        "The first prompt moves what it needs.",
    ),
    "device_fault": ErrorKind(
        "The compute device reported an error that no process recovers from.",
        "the device failed: {reason}",
        "The process must be restarted; a liveness probe at /livez does it. If it happens again, look at the driver's log.",
    ),
    "pickle_refused": ErrorKind(
        "The file is a pickle, and this ComfyUI would run the code in it.",
        "{file} is a pickle, which this ComfyUI does not load safely",
        "Convert it to safetensors, or update ComfyUI.",
    ),
    "internal": ErrorKind(
        "A fault of this plugin.",
        "the preload itself failed with {error}: {reason}",
        "Please report it with the traceback from ComfyUI's log.",
    ),
    # --- command line ---
    "comfyui_not_found": ErrorKind(
        "The command needs ComfyUI's folders and does not know where ComfyUI is.",
        "there is no ComfyUI {place}",
        "Name the folder that has main.py: --comfyui DIR, or COMFYUI_PATH.",
    ),
    "comfyui_unusable": ErrorKind(
        "ComfyUI is there, but its list of model folders cannot be read.",
        "ComfyUI's model folders cannot be read: {error}: {reason}",
        "Check extra_model_paths.yaml, and run the command with ComfyUI's own Python.",
    ),
    "url_invalid": ErrorKind(
        "What was given as URL is none.",
        "'{url}' is not the address of a server",
        "Write it like http://127.0.0.1:8188.",
    ),
    "server_unreachable": ErrorKind(
        "Nobody answers at that address.",
        "the server does not answer {path}: {reason}",
        "Check the address, the port and whether ComfyUI is up.",
    ),
    "server_answer": ErrorKind(
        "The server answers, but not as ComfyUI does.",
        "the server answered {path} with {found}; wanted status 200 and JSON",
        "Check that it is ComfyUI's address, and not that of a proxy that asks for a login.",
    ),
    "capture_empty": ErrorKind(
        "The server was asked for nothing that could be preloaded.",
        "no loader node with inputs of its own is in the {prompts} prompts of the history and queue",
        "Run your workflows there once, then capture again.",
    ),
    "convert_input": ErrorKind(
        "The file is of a kind that is not converted.",
        "{file} cannot be converted: it {found}",
        "{suggestion}",
    ),
    "convert_overflow": ErrorKind(
        "Some weights are too large for the new type and would become infinite.",
        "{found} finite numbers of {file} become infinite in {dtype}: {tensors}",
        "Use --dtype bf16, or --clamp to cut them to the largest number there is.",
    ),
    "output_refused": ErrorKind(
        "The file to write must not be written.",
        "{file} {found}",
        "{suggestion}",
    ),
    "output_failed": ErrorKind(
        "The file could not be read or written to its end; nothing is left of it.",
        "{file} was not written: {reason}",
        "Check the free space and the permissions of its folder.",
    ),
    "trace_unavailable": ErrorKind(
        "The system does not say which files a process has read.",
        "the start cannot be recorded: {reason}",
        "Linux with /proc is needed; without a record only the start of torch's libraries is read ahead.",
    ),
    # --- workflows ---
    "workflow_syntax": ErrorKind(
        "The workflow file is not JSON.",
        "the workflow is not valid JSON: {reason}",
        "Save it again in ComfyUI: 'Save' or 'Export (API)'.",
    ),
    "workflow_unknown_format": ErrorKind(
        "The file is JSON, but no workflow in either of ComfyUI's formats.",
        "the file holds {found}; wanted 'nodes', or nodes with 'class_type'",
        "Save the workflow in ComfyUI: 'Save' or 'Export (API)'.",
    ),
    "workflow_too_large": ErrorKind(
        "The workflow, or what its subgraphs come to, is beyond any sensible size.",
        "the workflow has {found}; at most {wanted} are accepted",
        "Remove embedded data, or split the workflow.",
    ),
    "workflow_version": ErrorKind(
        "The workflow was saved by an editor newer than this plugin knows.",
        "the workflow has schema version {found}; known are versions up to {wanted}",
        "It was read as far as possible. Use 'Export (API)' in ComfyUI if something is missing.",
    ),
    "workflow_node_invalid": ErrorKind(
        "Something among the nodes is no node.",
        "node {node} of the workflow was left out: {reason}",
        "Save the workflow again in ComfyUI.",
    ),
    "workflow_node_unknown": ErrorKind(
        "A node of the workflow has a class that is not installed.",
        "node {node} of the workflow was left out: its class '{type}' is not installed",
        "{suggestion}",
    ),
    "workflow_link_missing": ErrorKind(
        "A link of the workflow leads to nothing.",
        "input '{input}' of node {node} is linked to nothing",
        "Open the workflow in ComfyUI, connect that input again, and save.",
    ),
    "workflow_cycle": ErrorKind(
        "A node of the workflow waits for its own result.",
        "node {node} of the workflow was left out: its inputs lead back to itself",
        "Open the workflow in ComfyUI and take the circle apart.",
    ),
    "workflow_value_computed": ErrorKind(
        "What a loader node loads is only known while the workflow runs.",
        "input '{input}' of {loader} (node {node}) is computed by other nodes",
        "Choose the value in the loader node itself, or list that model under 'models'.",
    ),
}
