// What web/ imports from ComfyUI's own page, which is not on this machine when tsc runs: untyped, as ComfyUI serves it.

declare module "*/scripts/app.js" {
  export const app: any;
}

declare module "*/scripts/api.js" {
  export const api: any;
}
