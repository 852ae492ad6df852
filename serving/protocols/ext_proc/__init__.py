"""Envoy's external processor: HTTP requests as Envoy shows them in, a model for each out. docs/gateways/envoy.md."""
