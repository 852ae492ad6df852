"""The spool: what the server takes in for later, on disk before anyone is told so. Format: README.md."""
