"""What is done with bundles in the registry: list, compare, put into service, take back, clear away."""
