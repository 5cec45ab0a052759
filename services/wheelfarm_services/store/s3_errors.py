"""What a bucket's refusals mean, in words: by the code alone, for messages may repeat what was sent."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    ConnectTimeoutError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    SSLError,
)

from wheelfarm.errors import DiskFull, FarmUnavailable

_LATER = "Finished wheels are kept: run the command again when the store answers."
_NEEDED = "s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucket and s3:AbortMultipartUpload"
_CREDENTIALS = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile that AWS_PROFILE names."
_BY_CODE = {
    "NoSuchBucket": ("There is no bucket {bucket} at {where}.", "Make it, or correct WHEELFARM_STORE."),
    "RequestTimeTooSkewed": (
        "This machine's clock and that of the store at {where} are too far apart.",
        "Set the clock, by NTP for instance, then run the command again.",
    ),
    "InvalidAccessKeyId": ("The store at {where} does not know the access key that was given.", _CREDENTIALS),
    "SignatureDoesNotMatch": ("The secret key is not that of the access key at {where}.", _CREDENTIALS),
    "ExpiredToken": ("The credentials for the store at {where} have expired.", "Renew them."),
    "InvalidToken": ("The session token for the store at {where} is not valid.", "Renew it."),
    "AuthorizationHeaderMalformed": (
        "The bucket {bucket} is in another region than requests were signed for.",
        "Set WHEELFARM_S3_REGION.",
    ),
    "PermanentRedirect": ("The bucket {bucket} is in another region.", "Set WHEELFARM_S3_REGION."),
    "AccessDenied": ("The store at {where} does not allow{what} in the bucket {bucket}.", f"Needed: {_NEEDED}."),
    "QuotaExceeded": ("The quota of the bucket {bucket} is used up.", "Raise it, or free space: wheelfarm gc"),
    "InvalidStorageClass": ("The bucket {bucket} is full or has no such storage class.", "Look at the server."),
}
_BY_CODE["301"] = _BY_CODE["PermanentRedirect"]


def unavailable(message: str, hint: str = _LATER) -> FarmUnavailable:
    return FarmUnavailable(message, hint=hint)


def code_of(error: BaseException | None) -> str:
    """The code of a server's refusal."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def condition_failed(error: BaseException | None) -> bool:
    """Whether a conditional write was refused for what is there, or for what is not (`If-Match` of a missing key)."""
    return _status(error) == 412 or (_status(error) == 404 and code_of(error) == "NoSuchKey")


def may_pass(error: BaseException | None) -> bool:
    """Whether the same request may succeed in a moment; 409 says that another write was under way, and so does Ceph
    with 500."""
    return isinstance(error, HTTPClientError | ConnectionError) or _status(error) in (409, 429) or _status(error) >= 500


@contextmanager
def reported(bucket: str, endpoint: str, key: str = "") -> Iterator[None]:
    """Raise what boto3 raises as FarmUnavailable, told without any of its text, with it as the cause."""
    where = urlsplit(endpoint).netloc.rpartition("@")[2] or "AWS"
    try:
        yield
    except ClientError as error:
        raise _refused(error, bucket, where, key) from error
    except BotoCoreError as error:
        raise _unreached(error, where) from error


def _refused(error: ClientError, bucket: str, where: str, key: str) -> FarmUnavailable:
    code, status = code_of(error), _status(error)
    known = _BY_CODE.get(code) or (_BY_CODE["AccessDenied"] if status == 403 else None)
    if known:
        what = f" {error.operation_name}" if error.operation_name else ""
        kind = DiskFull if code == "QuotaExceeded" else FarmUnavailable
        return kind(known[0].format(bucket=bucket, where=where, what=what), hint=known[1])
    about = f" for {key!r}" if key else ""
    return unavailable(f"The store at {where} answered {status} ({code}) to {error.operation_name}{about}.")


def _unreached(error: BotoCoreError, where: str) -> FarmUnavailable:
    match error:
        case NoCredentialsError() | PartialCredentialsError() | ProfileNotFound():
            return unavailable(f"There are no credentials for the store at {where}.", _CREDENTIALS)
        case NoRegionError():
            return unavailable("The region of the bucket is not known.", "Set WHEELFARM_S3_REGION.")
        case SSLError():
            return unavailable(
                f"The certificate of the store at {where} is not trusted.", "Give its authority with WHEELFARM_S3_CA."
            )
        case ConnectTimeoutError() | ReadTimeoutError():
            return unavailable(f"The store at {where} does not answer in time.")
        case _:
            return unavailable(f"The store at {where} can't be reached ({type(error).__name__}).")


def _status(error: BaseException | None) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"]) if isinstance(error, ClientError) else 0
