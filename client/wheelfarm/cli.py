"""The console script."""

import atexit
import gc


def main() -> None:
    """Run the command. The garbage collector looks at no modules, neither as they are imported nor at the end: it would
    find nothing, and take a fifth of a short command's time."""
    gc.disable()
    atexit.register(gc.freeze)
    from wheelfarm.verbs import cli

    cli(prog_name="wheelfarm")
