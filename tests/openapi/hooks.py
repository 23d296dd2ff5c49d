"""What the checks of schemathesis do not say by themselves."""

import schemathesis
from schemathesis.generation import GenerationMode

# The codes of the gateway for what is not as it must be.
FORM = {
    "invalid_body",
    "malformed_request",
    "method_not_allowed",
    "too_large",
    "unsupported_media_type",
}


@schemathesis.check
def valid_requests_are_taken(ctx, response, case):
    """What the document allows is not refused for its form.

    The service, which has codes of its own, may: it alone knows whether a path is that of a scene or
    of a directory, and whether a conversion runs.
    """
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    if response.status_code not in (400, 415):
        return
    refusal = response.json()
    if refusal["code"] in FORM:
        raise AssertionError(f"{response.status_code}: {refusal}")
