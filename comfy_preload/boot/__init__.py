"""Code that ComfyUI's start runs: before it imports torch, and when it imports custom nodes."""
