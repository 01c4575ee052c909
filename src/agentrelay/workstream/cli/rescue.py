"""The commands for what clean-ups kept: rescued, restore, forget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

import agentrelay.workstream as library
from agentrelay.workstream._redact import redact
from agentrelay.workstream.cli.options import JSON, output_options, repository_option
from agentrelay.workstream.errors import RepositoryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentrelay.workstream import RescuedWork

__all__ = ["forget", "rescued", "restore"]

_PREFIX: Final = "refs/agentrelay/rescue/"
_DAY_S: Final = 86_400.0
_COLUMNS: Final = ("kept", "lane", "what", "commit", "holds", "ref")

_EPILOG: Final = """\b
Exit status:
  0    everything went well
  1    something failed; what was done before stays done
  2    the command line cannot be used; nothing was tried
"""

_graph = click.option(
    "--graph", metavar="NAME", help="Only lanes of this task graph; those of all unless given."
)
_refs = click.argument("refs", nargs=-1, metavar="REF...")


@click.command(epilog=_EPILOG)
@click.argument("ids", nargs=-1, metavar="[ID...]")
@_graph
@repository_option
@output_options
@click.pass_context
def rescued(
    context: click.Context, /, ids: tuple[str, ...], graph: str | None, repo: Path, **_given: Any
) -> None:
    """List what clean-ups kept, oldest first.

    A teardown keeps whatever exists nowhere else under refs below refs/agentrelay/rescue/:
    commits, and snapshots of staged, unstaged, untracked and ignored files. With IDs, only
    those workstreams. Nothing is changed.
    """
    found = [
        work for work in library.rescued(repo, graph=graph) if not ids or work.workstream_id in ids
    ]
    _print(context, "rescued", found, empty="Nothing is kept here.")


@click.command(epilog=_EPILOG)
@click.argument("refs", nargs=-1, required=True, metavar="REF...")
@click.option("--branch", metavar="NAME", help="Name of the new branch, for a single REF.")
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path),
    help="Write the files of a snapshot to this directory instead, for a single REF; it must not "
    "exist yet, or be empty.",
)
@repository_option
@output_options
@click.pass_context
def restore(
    context: click.Context,
    /,
    refs: tuple[str, ...],
    branch: str | None,
    directory: Path | None,
    repo: Path,
    **_given: Any,
) -> None:
    """Bring back what clean-ups kept, each on a branch of its own.

    REF is a ref that 'rescued' lists, or the beginning of several, such as
    nightly/parser for all that was kept of a lane. The branch is called
    rescued/GRAPH/ID/TIME/WHAT unless --branch names it. No checkout and no branch that
    exists is touched, and the ref stays until 'forget' removes it.
    """
    from agentrelay.workstream.cli import report

    works = _named(repo, refs)
    if len(works) > 1 and (branch is not None or directory is not None):
        raise RepositoryError(
            f"'{refs[0]}' names {len(works)} things, which cannot go to one place",
            path=repo,
            hint="Name one of them in full; 'rescued' lists them.",
        )
    done = [library.restore(repo, work, branch=branch, directory=directory) for work in works]
    if context.meta[JSON]:
        restored = [
            {
                **_document(one.work),
                "branch": one.branch,
                "directory": None if one.directory is None else str(one.directory),
            }
            for one in done
        ]
        report.print_document({"restored": restored})
        return
    for one in done:
        where = f"branch {one.branch}" if one.directory is None else f"directory {one.directory}"
        report.print_line(f"{_short(one.work)}: {where}")
        if one.work.deleted and one.directory is not None:
            report.print_line(f"note: deleted in the worktree: {', '.join(one.work.deleted)}")


@click.command(epilog=_EPILOG)
@_refs
@click.option(
    "--older-than",
    "days",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Forget everything that was kept more than this many days ago.",
)
@_graph
@click.option("--dry-run", is_flag=True, help="Only list what would be forgotten.")
@repository_option
@output_options
@click.pass_context
def forget(
    context: click.Context,
    /,
    refs: tuple[str, ...],
    days: float | None,
    graph: str | None,
    **given: Any,
) -> None:
    """Let go of what clean-ups kept, for good.

    Either REFs, in full or the beginning of several, or --older-than. What only they led to
    goes with the next garbage collection of git.
    """
    repo, dry_run = given["repo"], given["dry_run"]
    if bool(refs) == (days is not None):
        raise click.UsageError("Name REFs, or give --older-than DAYS.")
    if refs and graph is not None:
        raise click.UsageError("--graph goes with --older-than.")
    if days is None:
        works = _named(repo, refs)
    else:
        kept = library.rescued(repo, graph=graph)
        works = [work for work in kept if work.is_older_than(days * _DAY_S)]
    if works and not dry_run:
        works = library.forget(repo, works)
    key, empty = ("would_forget" if dry_run else "forgotten"), "There is nothing to forget."
    _print(context, key, works, empty=empty)


def _named(repo: Path, names: Sequence[str]) -> list[RescuedWork]:
    """Return what refs name, each in full or as the beginning of several.

    Raises:
        RepositoryError: One names nothing.
    """
    kept = library.rescued(repo)
    found: dict[str, RescuedWork] = {}
    for name in names:
        ref = (name if name.startswith(_PREFIX) else _PREFIX + name).rstrip("/")
        works = [work for work in kept if work.ref == ref or work.ref.startswith(f"{ref}/")]
        if not works:
            raise RepositoryError(
                f"nothing is kept under {name!a} in '{repo.absolute()}'",
                path=repo,
                hint="'agentrelay-workstream rescued' lists what is.",
            )
        found.update((work.ref, work) for work in works)
    return list(found.values())


def _print(context: click.Context, key: str, works: Sequence[RescuedWork], *, empty: str) -> None:
    """Print a table, or one document."""
    from agentrelay.workstream.cli import report

    if context.meta[JSON]:
        report.print_document({key: [_document(work) for work in works]})
    elif not works:
        report.print_line(empty)
    else:
        rows = [
            [
                "" if work.kept_at is None else f"{work.kept_at:%Y-%m-%d %H:%M} UTC",
                f"{work.graph}/{work.workstream_id}",
                work.label,
                work.commit_id[:12],
                _holds(work),
                _short(work),
            ]
            for work in works
        ]
        report.print_table(report.make_console(), _COLUMNS, rows)


def _holds(work: RescuedWork) -> str:
    """Return what is kept, in a few words."""
    if not work.is_snapshot or not (work.files or work.deleted):
        return work.subject
    first = (*work.files, *work.deleted)[0]
    more = len(work.files) + len(work.deleted) - 1
    return f"{first} and {more} more" if more else first


def _short(work: RescuedWork) -> str:
    """Return a ref's name as the commands take it."""
    return work.ref.removeprefix(_PREFIX)


def _document(work: RescuedWork) -> dict[str, Any]:
    """Return one entry of the JSON document."""
    return {
        "ref": work.ref,
        "graph": work.graph,
        "id": work.workstream_id,
        "kept_at": None if work.kept_at is None else work.kept_at.isoformat(),
        "what": work.label,
        "commit": work.commit_id,
        "subject": redact(work.subject),
        "files": list(work.files),
        "deleted": list(work.deleted),
    }
