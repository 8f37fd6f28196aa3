/** Which nodes load models. The same rule as in comfy_preload/core/workflow/loaders.py: a test compares. */

/** Types of models whose names do not end like one. */
export const MODEL_TYPES = [
  "BACKGROUND_REMOVAL",
  "CLIP",
  "CLIP_VISION",
  "CONTROL_NET",
  "GLIGEN",
  "MODEL_PATCH",
  "PHOTOMAKER",
];
export const MODEL_ENDINGS = ["MODEL", "VAE", "ENCODER"];

/** @param {{type: unknown}} slot */
function isModel(slot) {
  const types = String(slot.type).toUpperCase().split(",");
  return types.some(
    (type) => MODEL_TYPES.includes(type) || MODEL_ENDINGS.some((ending) => type.endsWith(ending)),
  );
}

/**
 * A node that returns a model and takes none.
 * @param {{type?: string, inputs?: {type: unknown}[], outputs?: {type: unknown}[]}} node
 */
export function isLoader(node) {
  if (node.type?.startsWith("ComfyPreload_")) return false; // returns what is in the plan already
  return (node.outputs ?? []).some(isModel) && !(node.inputs ?? []).some(isModel);
}
