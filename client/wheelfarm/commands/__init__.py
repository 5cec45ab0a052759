"""The verbs of the command `wheelfarm`, one module each; `wheelfarm.verbs` puts them together."""
