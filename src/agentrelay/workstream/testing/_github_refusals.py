"""GitHub's refusals: their statuses, messages and bodies, word for word.

Clients tell refusals apart by these texts, so they are the interface. Each one was
read in a recording, in GitHub's documentation, or in a report somebody pasted from
their own client; the few known from memory only say so.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["DOCUMENTATION", "NotImplementedRouteError", "RefusedError"]

DOCUMENTATION: Final = "https://docs.github.com/rest"

_CREATE: Final = f"{DOCUMENTATION}/pulls/pulls#create-a-pull-request"
_UPDATE: Final = f"{DOCUMENTATION}/pulls/pulls#update-a-pull-request"
_REVIEWERS: Final = f"{DOCUMENTATION}/pulls/review-requests#request-reviewers-for-a-pull-request"
_MERGE: Final = f"{DOCUMENTATION}/pulls/pulls#merge-a-pull-request"


class NotImplementedRouteError(AssertionError):
    """The double was asked for something GitHub has and the double has not."""


class RefusedError(ValueError):
    """GitHub refuses; the text is its message, and its errors' messages.

    Attributes:
        status: HTTP status of the answer.
        message: The body's ``message``.
        errors: The body's ``errors``.
        documentation_url: The page GitHub points to.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        errors: tuple[dict[str, str], ...] | str = (),
        documentation_url: str = DOCUMENTATION,
    ) -> None:
        """Make a refusal."""
        self.status = status
        self.message = message
        self.errors = errors
        self.documentation_url = documentation_url
        details = [] if isinstance(errors, str) else [_describe(error) for error in errors]
        super().__init__(
            ": ".join([f"{status} {message}", *(["; ".join(details)] * bool(details))])
        )

    def body(self) -> dict[str, Any]:
        """Return the JSON body of the answer."""
        errors = self.errors if isinstance(self.errors, str) else list(self.errors)
        return {
            "message": self.message,
            **({"errors": errors} if errors else {}),
            "documentation_url": self.documentation_url,
            "status": str(self.status),
        }

    # -- who asks

    @classmethod
    def requires_authentication(cls) -> RefusedError:
        """No credential at all, where one is needed (from memory)."""
        return cls(401, "Requires authentication")

    @classmethod
    def bad_credentials(cls) -> RefusedError:
        """A credential that is not valid."""
        return cls(401, "Bad credentials")

    @classmethod
    def unsupported_version(cls, version: str, supported: str) -> RefusedError:
        """An ``X-GitHub-Api-Version`` GitHub does not know."""
        return cls(
            400,
            "Bad Request",
            errors=(
                'The version you specified in the "X-GitHub-API-Version" request header,'
                f' "{version}", is not a supported version. The following versions are'
                f' currently supported: "{supported}" (most recent).'
            ),
        )

    @classmethod
    def rate_limited(cls) -> RefusedError:
        """The hourly quota is used up."""
        return cls(403, "API rate limit exceeded for user ID 1.")

    # -- what is asked for

    @classmethod
    def not_found(cls, message: str = "Not Found") -> RefusedError:
        """There is no such thing, or the token may not see it."""
        return cls(404, message)

    @classmethod
    def no_commit(cls, name: str) -> RefusedError:
        """A name in ``/commits/{ref}`` that resolves to nothing."""
        return cls(422, f"No commit found for SHA: {name}")

    @classmethod
    def no_reference(cls) -> RefusedError:
        """Deleting a ref that is not there."""
        return cls(422, "Reference does not exist")

    @classmethod
    def bad_json(cls) -> RefusedError:
        """A body that is not JSON."""
        return cls(400, "Problems parsing JSON")

    @classmethod
    def not_an_object(cls) -> RefusedError:
        """A body that is JSON and not an object."""
        return cls(400, "Body should be a JSON object")

    @classmethod
    def media_type(cls) -> RefusedError:
        """A body that does not say it is JSON; GitHub itself is more lenient."""
        return cls(415, "Unsupported Media Type: send application/json")

    @classmethod
    def not_supplied(cls, names: list[str]) -> RefusedError:
        """Keys the request must have and has not."""
        listed = ", ".join(f'"{name}"' for name in sorted(names))
        verb = "wasn't" if len(names) == 1 else "weren't"
        return cls(422, f"Invalid request.\n\n{listed} {verb} supplied.", documentation_url=_CREATE)

    @classmethod
    def wrong_type(cls, name: str, value: object, wanted: str) -> RefusedError:
        """A key whose value has another type, or is not one of the few allowed."""
        return cls(422, f"Invalid request.\n\nFor 'properties/{name}', {value!r} is not {wanted}.")

    # -- pull requests

    @classmethod
    def validation(cls, *errors: dict[str, str], page: str = _CREATE) -> RefusedError:
        """One or more of the errors below, in GitHub's envelope."""
        return cls(422, "Validation Failed", errors=errors, documentation_url=page)

    @classmethod
    def no_drafts(cls) -> RefusedError:
        """A draft where the repository's plan has none (SWE-agent/SWE-agent issue 179)."""
        message = "Draft pull requests are not supported in this repository."
        return cls(422, message, documentation_url=_CREATE)

    @classmethod
    def no_collaborator(cls, full_name: str) -> RefusedError:
        """A review asked of somebody without access (polkadot-fellows/runtimes issue 405)."""
        message = (
            "Reviews may only be requested from collaborators. One or more of the users or"
            f" teams you specified is not a collaborator of the {full_name} repository."
        )
        return cls(422, message, documentation_url=_REVIEWERS)

    @classmethod
    def no_milestone(cls, number: int) -> RefusedError:
        """A milestone that is not there."""
        error = {"resource": "Issue", "code": "invalid", "field": "milestone", "value": str(number)}
        return cls.validation(error, page=f"{DOCUMENTATION}/issues/issues#update-an-issue")

    @classmethod
    def state_unchanged(cls, reason: str) -> RefusedError:
        """A closed pull request that cannot be opened again."""
        error = {
            "resource": "PullRequest",
            "code": "invalid",
            "field": "state",
            "message": f"state cannot be changed. {reason}",
        }
        return cls.validation(error, page=_UPDATE)

    @classmethod
    def not_mergeable(cls, message: str = "Pull Request is not mergeable") -> RefusedError:
        """A merge GitHub does not carry out."""
        return cls(405, message, documentation_url=_MERGE)

    @classmethod
    def base_modified(cls) -> RefusedError:
        """The base moved while the merge was made; asking again helps."""
        return cls.not_mergeable("Base branch was modified. Review and try the merge again.")

    @classmethod
    def head_modified(cls) -> RefusedError:
        """The head is not at the commit the merge was asked for."""
        message = "Head branch was modified. Review and try the merge again."
        return cls(409, message, documentation_url=_MERGE)


def _describe(error: dict[str, str]) -> str:
    return error.get("message") or f"{error.get('field')} {error.get('code')}"
