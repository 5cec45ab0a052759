"""The verbs of the command `wheelfarm`, one module each; `wheelfarm.cli` puts them together."""
