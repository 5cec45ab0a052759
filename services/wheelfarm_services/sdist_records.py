"""What the source index listed a mirrored sdist as."""

import json
from collections.abc import Mapping
from typing import Any

from wheelfarm.job import Sdist
from wheelfarm_services import layout
from wheelfarm_services.store import Store


def sdist_record(store: Store, sdist: Sdist) -> Mapping[str, Any]:
    """The fields of its `ListedSdist`; empty for a local sdist, which no upstream listed."""
    data = store.get(layout.sdist_record(sdist.sha256))
    return {} if data is None else dict(json.loads(data))
