"""Bundles: a router on disk, checked, signed, and found in the registry.

Comes in: a folder or a name in the registry. Goes out: a `Bundle` whose every byte was checked, or an error that
says what is wrong.
"""
