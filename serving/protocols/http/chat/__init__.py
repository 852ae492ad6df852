"""Chat completions answered through an upstream. Comes in: a call as OpenAI's SDK makes it. Goes out: one answer."""
