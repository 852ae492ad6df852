"""Ways in for callers that do not speak `turnout.v1`; each is off until asked for, and needs an extra of its own."""
