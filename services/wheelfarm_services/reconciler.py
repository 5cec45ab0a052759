"""The reconciler as a process: `python -m wheelfarm_services.reconciler`; services run one unless told not to."""

import logging
import os
import signal

import click

from wheelfarm.errors import WheelfarmError
from wheelfarm.settings import Settings
from wheelfarm_services.assembly import assemble
from wheelfarm_services.logs import configure_logs, log_to_stderr
from wheelfarm_services.metrics import LedgerMetrics
from wheelfarm_services.metrics_server import metrics_told
from wheelfarm_services.reconciliation import Reconciler
from wheelfarm_services.refusal import refuse

logger = logging.getLogger(__name__)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Tell as JSON what keeps the reconciler from running.")
def main(as_json: bool) -> None:
    """Repair what crashes leave in the farm of WHEELFARM_BROKER and WHEELFARM_STORE, until told to stop."""
    log_to_stderr()
    try:
        settings = Settings.from_environment(os.environ, required=["broker"])
        configure_logs(settings.logs, "reconciler", settings.log_format)
        parts = assemble(settings)
        with metrics_told(settings.metrics, LedgerMetrics(parts.ledger, parts.fleet)):
            run_until_told(parts.reconciler)
    except WheelfarmError as error:
        refuse(error, as_json=as_json)


def run_until_told(reconciler: Reconciler) -> None:
    """Reconcile until SIGTERM or SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: reconciler.stop())
    logger.info("reconciler started")
    reconciler.run()


if __name__ == "__main__":
    main()
