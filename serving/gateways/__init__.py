"""Where callers are that speak other protocols than RouterService: HTTP, LiteLLM, open inference. README.md."""
