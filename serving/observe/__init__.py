"""The server seen from outside: metrics, traces, logs, alerts, a live view, and a check of the installation."""
