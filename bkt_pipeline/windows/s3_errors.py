"""S3's error codes: which of them concern the whole store, and what to do about them."""

from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)

from bkt_pipeline.errors import WindowStoreUnavailable

CHANGED = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
MISSING = ("NoSuchKey", "404")
REFUSED = (
    "AccessDenied",
    "403",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
)
ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "301")


def code_of(error: ClientError) -> str:
    """S3's code for the error. An answer without a body, such as to a HEAD request, has only an HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def explain(error: BaseException, bucket: str, location: str) -> WindowStoreUnavailable | None:
    """The cause and what to do, if the error concerns the whole store; None if it concerns one object."""
    if isinstance(error, ClientError):
        what = f"{code_of(error)} at {error.operation_name}"
        if code_of(error) == "NoSuchBucket":
            what = f"there is no bucket {bucket}; create it, or correct ATTEMPT_WINDOW_STORE"
        elif code_of(error) in REFUSED:
            what += "; give the role of the run what deploy/aws/iam/run.json allows, on this bucket"
        elif code_of(error) in ELSEWHERE:
            what += "; set AWS_DEFAULT_REGION to the bucket's region"
        else:
            return None
    elif isinstance(error, NoCredentialsError | PartialCredentialsError | ProfileNotFound):
        what = f"{type(error).__name__}; run it under a role, or give credentials as the AWS command line takes them"
    elif isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        what = "S3 cannot be reached; check that the network allows it, through a NAT or an S3 endpoint"
    else:
        return None
    return WindowStoreUnavailable(f"windows cannot be kept at {location}: {what}")
