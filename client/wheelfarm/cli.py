"""The console script."""

import gc


def main() -> None:
    """Run the command. Its modules are imported without the garbage collector, which finds nothing in them and takes a
    fifth of the time, as it would at the end."""
    gc.disable()
    from wheelfarm.verbs import cli

    cli(prog_name="wheelfarm")
