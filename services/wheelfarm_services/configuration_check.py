"""What is wrong with the files that the settings name, told at start and all at once."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from wheelfarm.errors import InputError
from wheelfarm.policy_file import read_policy_file
from wheelfarm.recipe import read_recipe_file
from wheelfarm.settings import Settings
from wheelfarm.token_file import read_token_file


def configuration_checks(settings: Settings) -> Iterator[Callable[[], object]]:
    """Checks for `require_all`, one a file or folder: each raises InputError that names it and what is wrong."""
    yield partial(_require_token, settings)
    if settings.tokens.name:
        yield partial(read_token_file, settings.tokens)
    if settings.policy.name:
        yield partial(read_policy_file, settings.policy)
    if settings.recipes.name:
        yield partial(_require_folder, settings.recipes)
        for path in sorted(settings.recipes.glob("*.toml")):
            yield partial(read_recipe_file, path)
    if settings.upstreams.name:
        from wheelfarm_services.upstreams.configuration import read_upstreams  # pydantic takes a tenth of a second

        yield partial(read_upstreams, settings.upstreams)
    if settings.s3_ca.name:
        yield partial(_require_certificates, settings.s3_ca)
    if settings.audit.name:
        yield partial(_require_appendable, settings.audit, "WHEELFARM_AUDIT")
    if settings.logs.name:
        yield partial(_require_makeable, settings.logs)


def _require_token(settings: Settings) -> None:
    if not (settings.token or settings.tokens.name):
        raise InputError("The API needs WHEELFARM_TOKEN or WHEELFARM_TOKENS: nobody is let in without a token.")


def _require_folder(path: Path) -> None:
    if not path.is_dir():
        raise InputError(f"The recipe folder {path} is not there.", hint="WHEELFARM_RECIPES names it.")


def _require_certificates(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"There are no certificates at {path}.", hint="WHEELFARM_S3_CA names them.")


def _require_appendable(path: Path, name: str) -> None:
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}.", hint=f"{name} names it.") from error


def _require_makeable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {folder} can't be made: {error.strerror}.", hint="WHEELFARM_LOGS names it."
        ) from error
