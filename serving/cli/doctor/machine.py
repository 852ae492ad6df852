"""Checks of the machine: instruction sets, cores, file descriptors."""

from __future__ import annotations

import math
import os
import platform
import resource
from pathlib import Path

from turnout.serving.cli.doctor.finding import Finding, ok, warn

CPUINFO = Path("/proc/cpuinfo")
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
MIN_DESCRIPTORS = 1024
"""A connection is one descriptor; gateways open at least two channels a worker."""


def check_instructions(cpuinfo: Path = CPUINFO) -> Finding:
    """Look for the instructions that the int8 encoder is fast with."""
    try:
        flags = _flags(cpuinfo.read_text(encoding="utf-8"))
    except OSError:
        return warn("CPU", f"{platform.machine()}, features unknown", "look for VNNI (x86) or dotprod (ARM) by hand")
    vnni = flags & {"avx512_vnni", "avx_vnni", "asimddp"}
    if vnni:
        return ok("CPU", f"{platform.machine()} with {', '.join(sorted(vnni))}")
    if "avx2" in flags:
        return warn(
            "CPU",
            f"{platform.machine()} with avx2, without VNNI",
            "the encoder runs two to four times slower; signed int8 may saturate: see the golden answers below",
        )
    return warn("CPU", f"{platform.machine()} without VNNI and AVX2", "expect several times the published latency")


def _flags(cpuinfo: str) -> frozenset[str]:
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def usable_cores(quota: Path = CPU_QUOTA) -> float:
    """Return how many cores this process may use: its affinity, or less where a container's quota is lower."""
    cores = float(len(os.sched_getaffinity(0)))
    try:
        limit, period = quota.read_text(encoding="ascii").split()
        return min(cores, int(limit) / int(period))
    except (OSError, ValueError):  # no cgroup, or `max`
        return cores


def check_cores(cores: float, workers: int | None) -> Finding:
    """Compare the cores with the workers of a running server; None where it is not known."""
    found = f"{cores:g} usable" + ("" if workers is None else f", {workers} workers ready")
    if cores < 1:
        return warn("cores", found, "raise the container's CPU quota: below 1 the server is paused every 100 ms")
    if workers is not None and workers > math.ceil(cores):
        return warn("cores", found, "run one worker a core; more only take turns, and waiting grows")
    return ok("cores", found)


def check_descriptors(soft_limit: int | None = None) -> Finding:
    """Look at how many files and connections a process may hold open."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if soft_limit is None else soft_limit
    if limit != resource.RLIM_INFINITY and limit < MIN_DESCRIPTORS:
        return warn("file descriptors", f"limit {limit}", f"raise it: ulimit -n {MIN_DESCRIPTORS}, or LimitNOFILE=")
    return ok("file descriptors", "no limit" if limit == resource.RLIM_INFINITY else f"limit {limit}")
