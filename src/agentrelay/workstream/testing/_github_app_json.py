"""Bodies of the GitHub double's answers about apps, with every field GitHub's schema requires."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrelay.workstream.testing import _github_json as bodies

if TYPE_CHECKING:
    from agentrelay.workstream.testing._github_apps import InstalledApp
    from agentrelay.workstream.testing._github_json import Json, Urls
    from agentrelay.workstream.testing._github_store import HostedRepository

__all__ = ["app", "installation"]


def installation(
    urls: Urls, found: InstalledApp, hosted: HostedRepository, *, suspended: bool
) -> Json:
    """Return an installation, as whoever owns ``hosted`` made it."""
    url = f"{urls.api}/app/installations/{found.installation_id}"
    owner, created = bodies.user(urls, hosted.owner), bodies.timestamp(hosted.created_at)
    return {
        "id": found.installation_id,
        "client_id": found.client_id,
        "account": owner,
        "repository_selection": "selected",
        "access_tokens_url": f"{url}/access_tokens",
        "repositories_url": f"{urls.api}/installation/repositories",
        "html_url": f"{urls.web}/settings/installations/{found.installation_id}",
        "app_id": found.app_id,
        "app_slug": f"app-{found.app_id}",
        "target_id": owner["id"],
        "target_type": "User",
        "permissions": dict(found.permissions),
        "events": [],
        "created_at": created,
        "updated_at": created,
        "single_file_name": None,
        "has_multiple_single_files": False,
        "single_file_paths": [],
        "suspended_by": owner if suspended else None,
        "suspended_at": created if suspended else None,
    }


def app(urls: Urls, found: InstalledApp) -> Json:
    """Return an app, as it sees itself."""
    slug, created = f"app-{found.app_id}", "2024-01-02T03:04:05Z"
    return {
        "id": found.app_id,
        "client_id": found.client_id,
        "slug": slug,
        "node_id": bodies.node_id("A", found.app_id),
        "owner": bodies.user(urls, "octocat"),
        "name": slug,
        "description": None,
        "external_url": "https://example.invalid",
        "html_url": f"{urls.web}/apps/{slug}",
        "created_at": created,
        "updated_at": created,
        "permissions": dict(found.permissions),
        "events": [],
        "installations_count": 1,
    }
