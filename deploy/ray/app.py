"""The application.

`serve run deploy.ray.app:app`, or a Serve config file with `import_path: deploy.ray.app:app`.
"""

from pathlib import Path

from deploy.ray.comfyui import Options
from deploy.ray.proxy import Front
from deploy.ray.replica import Comfy
from deploy.ray.sets import Sets
from ray.serve import Application


def app(options: Options) -> Application:
    """Build the application; `options` are the `args` of the config file.

    Raises SetsError.
    """
    sets = Sets.read(Path(options.sets))
    return Front.bind(Comfy.bind(sets, options), sets)
