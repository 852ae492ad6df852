"""What the router itself costs: CPU time of a decision at the price of a core.

Comes in: both, as measured and as stated. Goes out: USD a decision, for `turnout savings` and the report's explorer.
"""

from __future__ import annotations

import msgspec

SECONDS_PER_HOUR = 3600


class Machine(msgspec.Struct, frozen=True):
    """What the router runs on.

    Attributes:
        cpu_s_per_decision: CPU seconds of one decision. The default is what a prompt of some 64 tokens takes when the
            encoder runs, which it does for fewer than a fifth; measure your own:
            `rate(turnout_worker_cpu_seconds_total[1d]) / rate(turnout_decisions_total[1d])`.
        usd_per_core_hour: AWS m7g.large on demand, Linux, us-east-1, June 2026: USD 0.0816 an hour for 2 cores.
    """

    cpu_s_per_decision: float = 0.003
    usd_per_core_hour: float = 0.0408

    @property
    def usd_per_decision(self) -> float:
        """USD of one decision: CPU time at the price of a core; a core that idles costs as well."""
        return self.cpu_s_per_decision * self.usd_per_core_hour / SECONDS_PER_HOUR
