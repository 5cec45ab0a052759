"""The command `wheelfarm`: verbs, results on stdout, everything else on stderr, an exit code a cause."""

import gc
import importlib
from keyword import iskeyword

import click

from wheelfarm import __version__

_VERBS = (
    *("install", "build", "lock", "plan", "why", "logs", "status", "wait", "cancel", "doctor", "recipe", "policy"),
    *("config", "export", "import"),
    *("target", "up", "worker", "services", "python", "yank", "unyank", "quarantine", "delete", "gc"),
    *("token", "completion"),
)


class _Verbs(click.Group):
    """The verbs, each imported when it is needed: `install` starts as fast as it can."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(f"wheelfarm.commands.{cmd_name}{'_' if iskeyword(cmd_name) else ''}")
        gc.freeze()  # what was imported stays to the end
        gc.enable()
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wheelfarm")
def cli() -> None:
    """Install Python packages of which every part, build tools included, was built from source in a sandbox."""
