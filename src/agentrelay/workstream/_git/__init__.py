"""The only production door to libgit2.

Everything here speaks of repositories, refs, worktrees and remotes; nothing here
knows what a workstream runtime is.
"""

from agentrelay.workstream._git import libgit2

libgit2.load()
