"""Parameters and bodies that operations share, with the forms that are accepted."""

from wheelfarm.digest import SHA256
from wheelfarm.job import PROJECT_NAME, SDIST_FILENAME, SDIST_VERSION
from wheelfarm.target import TARGET_NAME
from wheelfarm_services.json_body import MOST_SDISTS
from wheelfarm_services.operation import Parameter

REQUEST_ID = Parameter(name="id", told="The id that the client gave its request.", form="[0-9a-f]{32}")
RESOLUTION_ID = Parameter(name="id", told="The id of a resolution: the user name of its requests.", form="[0-9a-f]{32}")
JOB_PREFIX = Parameter(name="prefix", told="The id of a job, or its first digits.", form="[0-9a-f]{8,64}")
TARGET = Parameter(name="target", told="The name of a target.", form=TARGET_NAME.pattern, is_target=True)
WHEEL_SHA256 = Parameter(name="sha256", told="The wheel's digest.", form=SHA256.pattern)
ANY_TEXT = "[^\\x00-\\x1f\\x7f]{1,300}"


def matching(form: str) -> dict[str, str]:
    """The schema of a string that has this form."""
    return {"type": "string", "pattern": f"^({form})$"}


SDIST = {
    "type": "object",
    "description": "An sdist by its normalised name and version, its file name and its digest.",
    "properties": {
        "name": matching(PROJECT_NAME.pattern),
        "version": matching(SDIST_VERSION.pattern),
        "filename": matching(SDIST_FILENAME.pattern),
        "sha256": matching(SHA256.pattern),
    },
    "required": ["name", "version", "filename", "sha256"],
}
SDISTS = {"type": "array", "items": SDIST, "maxItems": MOST_SDISTS}
