"""The stages of the preload and of the commands; shutdown and the watchdog."""
