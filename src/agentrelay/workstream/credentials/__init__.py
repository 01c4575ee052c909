"""One credential chain, for git and for GitHub's API alike.

A token belongs to a host. Every place that is searched knows which hosts its token
is for, so asking for one host never hands out the token of another. Nothing is
cached: a token that was renewed is seen by the next request.

Everything here is standard library only and talks to nobody.
"""

from agentrelay.workstream.credentials._chain import (
    Credential,
    describe_search,
    find_credential,
)
from agentrelay.workstream.credentials._network import (
    ca_bundle,
    ca_variable,
    find_proxy,
    is_loopback,
    proxy_for,
)
from agentrelay.workstream.credentials._owners import canonical_host, is_hosted, is_other_forge
from agentrelay.workstream.credentials._secret import Secret
from agentrelay.workstream.credentials._signing import (
    SigningKey,
    SigningSource,
    check_signing_source,
)
from agentrelay.workstream.credentials._sources import (
    AfterEnvironment,
    TokenProvider,
    TokenSource,
    seal_token,
)
from agentrelay.workstream.credentials._ssh import (
    SshKey,
    find_ssh_keys,
    has_ssh_agent,
    knows_host,
)

__all__ = [
    "AfterEnvironment",
    "Credential",
    "Secret",
    "SigningKey",
    "SigningSource",
    "SshKey",
    "TokenProvider",
    "TokenSource",
    "ca_bundle",
    "ca_variable",
    "canonical_host",
    "check_signing_source",
    "describe_search",
    "find_credential",
    "find_proxy",
    "find_ssh_keys",
    "has_ssh_agent",
    "is_hosted",
    "is_loopback",
    "is_other_forge",
    "knows_host",
    "proxy_for",
    "seal_token",
]
