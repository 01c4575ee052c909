"""The runner, the preparer and the teardown as the options of a command set them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrelay.workstream import (
    GhWorkstreamIntegrator,
    GitWorkstreamPreparer,
    GitWorkstreamTeardown,
    StandardWorkstreamRunner,
    WorkstreamIntegrator,
    WorkstreamRuntime,
    WorkstreamTeardown,
)
from agentrelay.workstream.credentials import TokenSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agentrelay.workstream import CheckoutProgress
    from agentrelay.workstream.cli.lanes import Place

__all__ = ["Witness", "preparer_of", "standard_runner", "teardown_of"]


class Witness:
    """Stands before the steps whose exceptions the runner keeps, for the sake of the hint."""

    failure: Exception | None = None

    def __init__(self, integrator: WorkstreamIntegrator, teardown: WorkstreamTeardown) -> None:
        """Stand before both; a command uses one of them, for one lane."""
        self._integrator = integrator
        self._teardown = teardown

    def create_integration_pr(self, workstream_runtime: WorkstreamRuntime) -> None:
        """Pass the step on."""
        self._watch(self._integrator.create_integration_pr, workstream_runtime)

    def teardown_workstream(self, workstream_runtime: WorkstreamRuntime) -> None:
        """Pass the step on."""
        self._watch(self._teardown.teardown_workstream, workstream_runtime)

    def _watch(self, step: Callable[[WorkstreamRuntime], None], runtime: WorkstreamRuntime) -> None:
        try:
            step(runtime)
        except Exception as error:
            self.failure = error
            raise


def standard_runner(
    place: Place,
    *,
    remote: str,
    ssh_key: Path | None,
    token: TokenSource = None,
    api_url: str | None = None,
    full_name: str | None = None,
    progress: Callable[[CheckoutProgress], None] | None = None,
) -> tuple[StandardWorkstreamRunner, Witness]:
    """Return the standard runner for one lane, and who remembers what it swallows."""
    integrator = GhWorkstreamIntegrator(
        place.repo,
        remote=remote,
        ssh_key=ssh_key,
        token=token,
        api_url=api_url,
        full_name=full_name,
    )
    teardown = teardown_of(
        place, remote=remote, ssh_key=ssh_key, token=token, api_url=api_url, full_name=full_name
    )
    witness = Witness(integrator, teardown)
    preparer = preparer_of(place, remote=remote, ssh_key=ssh_key, token=token, progress=progress)
    return StandardWorkstreamRunner(preparer, witness, witness), witness


def preparer_of(
    place: Place,
    *,
    remote: str,
    ssh_key: Path | None,
    token: TokenSource = None,
    progress: Callable[[CheckoutProgress], None] | None = None,
) -> GitWorkstreamPreparer:
    """Return what prepares the lanes of one place."""
    return GitWorkstreamPreparer(
        place.repo,
        place.graph,
        run_dir=place.run_dir,
        remote=remote,
        ssh_key=ssh_key,
        token=token,
        progress=progress,
    )


def teardown_of(
    place: Place,
    *,
    remote: str,
    ssh_key: Path | None,
    token: TokenSource = None,
    api_url: str | None = None,
    full_name: str | None = None,
) -> GitWorkstreamTeardown:
    """Return what tears down the lanes of one place."""
    return GitWorkstreamTeardown(
        place.repo,
        run_dir=place.run_dir,
        remote=remote,
        ssh_key=ssh_key,
        token=token,
        api_url=api_url,
        full_name=full_name,
    )
