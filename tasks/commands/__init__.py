"""The sub-commands of `headstart`, a module each."""
