"""Retraining: from new logs to a challenger, and from the comparison with the champion to what is in service.

Comes in: new logs and kept rows. Goes out: a verdict, and the challenger promoted or kept out.

logs, kept rows -> labels -> division (learn | test, later in time) -> learn -> ask both -> gate -> publish -> promote
"""
