"""What the scripts of `tools/` and the installed commands do: options in, library calls, one line for a mistake."""
