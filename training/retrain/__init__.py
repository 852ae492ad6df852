"""Retraining: from new logs to a challenger, and from the comparison with the champion to what is in service.

logs, kept rows -> labels -> division (learn | test, later in time) -> learn -> ask both -> gate -> publish -> promote
"""
