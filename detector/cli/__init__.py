"""The program `spp`, one module for each verb: options in, library calls, one line for a user's mistake."""
