"""`wheelfarm completion`: scripts that make shells complete the command's words."""

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_WHEELFARM_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print the script that makes a SHELL complete verbs, options and paths.

    For bash, in ~/.bashrc: eval "$(wheelfarm completion bash)"; for zsh the same in ~/.zshrc; for fish: wheelfarm
    completion fish > ~/.config/fish/completions/wheelfarm.fish
    """
    completion = get_completion_class(shell)
    if completion is None:
        raise click.UsageError(f"click completes no words for {shell}.")
    click.echo(completion(context.find_root().command, {}, "wheelfarm", _VARIABLE).source())
