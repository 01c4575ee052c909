"""The only door to PyGithub: addresses, the client, pull requests and failures."""
