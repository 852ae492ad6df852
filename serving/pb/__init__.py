"""Stubs of `proto/turnout/v1/router.proto`; written by `python -m serving.pb.generate`, never by hand."""
