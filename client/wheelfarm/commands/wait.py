"""`wheelfarm wait`: the wheels of a request that was left to the farm."""

from pathlib import Path
from typing import Any

import click

from wheelfarm.commands.build import deliver, deliver_and_fail, make_folder
from wheelfarm.commands.command import reporting, shared_options
from wheelfarm.errors import NotFound, RequestFailed


@click.command("wait")
@click.argument("request", metavar="REQUEST")
@click.option("--keep-going", is_flag=True, help="After a failure, wait all the same for what can be built.")
@click.option("--out", type=click.Path(path_type=Path), help="Copy the wheels there, for pip's --find-links.")
@shared_options
def wait_command(request: str, keep_going: bool, out: Path | None, **shared: Any) -> None:
    """Wait for a REQUEST of `wheelfarm build --detach`, by its id or the first digits of it, and fetch its wheels.

    The request is closed when all of it has ended; until then the command may be interrupted and run again.
    """
    with reporting(**shared) as command, command.running_farm() as farm:
        if farm is None:
            raise NotFound("No farm runs for this store, so there is nothing to wait for.", hint="wheelfarm status")
        from wheelfarm.chain import await_wheels

        make_folder(out)
        watch = command.progress.watch
        try:
            status = farm.find_request(request)
            wheels = await_wheels(status, farm=farm, wheelhouse=command.wheelhouse, watch=watch, keep_going=keep_going)
        except RequestFailed as failed:
            deliver_and_fail(command, failed, out)
        deliver(command, wheels, out)
