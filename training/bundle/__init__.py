"""Bundles as training makes them: a router into a folder, and back.

Comes in: a fitted router with its figures. Goes out: graph, manifest and golden prompts, published in one step.
"""
