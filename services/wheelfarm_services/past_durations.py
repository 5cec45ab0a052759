"""What a ledger that has just begun, or was emptied, is told of the past: how long wheels took to build."""

import logging
from itertools import islice
from statistics import median

from wheelfarm.errors import WheelfarmError
from wheelfarm.job import JobKind
from wheelfarm_services import layout
from wheelfarm_services.build_history import BuildHistory
from wheelfarm_services.ledger import Ledger
from wheelfarm_services.store import Store
from wheelfarm_services.submissions import subject
from wheelfarm_services.targets import Targets

logger = logging.getLogger(__name__)

_MOST_TARGETS = 20


def tell_durations(store: Store, ledger: Ledger, targets: Targets) -> None:
    """Tell the ledger the median of each project's builds, for the targets that were defined last.

    It knows better of what it has seen itself. Takes a read for each wheel of the store.
    """
    history = BuildHistory(store)
    defined = sorted(store.objects(layout.target_definitions("")), key=lambda found: -found.modified_at)
    for found in islice(defined, _MOST_TARGETS):
        _, name, revision = found.key.removesuffix(".json").split("/")
        try:
            queue = targets.known(name, revision).queue
            past: dict[str, list[float]] = {}
            for build in history.of(name):
                past.setdefault(subject(queue, JobKind.WHEEL, build.name), []).append(build.seconds)
            ledger.remember_seconds({project: median(seconds) for project, seconds in past.items()})
        except (WheelfarmError, ValueError) as error:  # without it the farm builds all the same, in another order
            logger.warning("past durations not told", extra={"target": name, "reason": str(error)})
