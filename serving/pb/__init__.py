"""Stubs of `proto/turnout/v1/router.proto`; written by `python -m turnout.serving.pb.generate`, never by hand."""
