"""Bundles come and go while the server answers: load beside, check, warm up, swap; on any fault keep what is there.

    CURRENT replaced, or SIGHUP -> resolve -> digests, golden answers -> warm up -> one reference swapped

What is watched is the pointer file `CURRENT`, which is replaced atomically, and never a folder: a folder
half written would be seen half written. A look that fails (no descriptors left, a disk that does not answer) is no
change: it is said, counted apart, and repeated.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from turnout.serving.bundles.bundle import Bundle, load_bundle, read_manifest
from turnout.serving.bundles.manifest import Manifest
from turnout.serving.bundles.registry import CURRENT, resolve
from turnout.serving.decision.decision import decide
from turnout.serving.errors import BundleRefused, failed_look
from turnout.serving.files import Looks
from turnout.serving.observe.metrics import ServerMetrics
from turnout.serving.router.prompt import prompt_from_text
from turnout.serving.service.cache import PredictionCache
from turnout.serving.service.lineup import Lineup, Served
from turnout.serving.settings import Sources

WARM_UP_WORDS = (1, 16, 64, 256)
"""Lengths of the warm-up prompts; onnxruntime plans its memory at the first run of each shape."""

WATCH_INTERVAL_S = 1.0
LOAD_S = 100.0
"""A bundle that takes longer to load hangs; less than the supervisor waits for a worker's reload."""
SAY_EVERY_S = 60.0
"""How often the same failed look is logged."""

_log = logging.getLogger("turnout.lifecycle")


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """What one look at the sources did.

    Attributes:
        loaded: ids of the bundles that came in.
        refused: messages of those refused.
        unread: messages of those of which nothing could be seen; the next look tries again.
    """

    loaded: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


class Lifecycle:
    """Keeps a `Lineup` up to date with its sources.

    Attributes:
        lineup: what answers now; replaced as a whole.
        metrics: what this worker counts.
    """

    def __init__(self, sources: Sources, metrics: ServerMetrics | None = None) -> None:
        """Load all bundles; nothing is warm yet. `metrics` are told of every change.

        Raises:
            BundleRefused: one of them can't be served; at the start that ends it, later it does not.
        """
        self.sources = sources
        self.metrics = metrics or ServerMetrics()
        self._seen: dict[Path, str] = {}
        self._said_at_s: dict[str, float] = {}
        self._looks, self._loads = Looks(), Looks(LOAD_S)
        self._seen = self._said(self._pointers())  # before the loading: what changes meanwhile is seen as a change
        self._held = {path: self._serve(self._load(resolve(path))) for path in sources.paths}
        self._check_challengers()
        self._without_canary: str | None = None
        self._reloading = asyncio.Lock()
        self.lineup = self._lineup()
        self._tell()

    async def warm_up(self) -> None:
        """Run prompts of several lengths through all bundles, off the event loop."""
        for one in self.lineup.everyone:
            await asyncio.to_thread(warm_up, one.bundle)

    async def reload(self) -> ReloadResult:
        """Look at all sources again, and take in what changed; what can't be served leaves its forerunner in place."""
        async with self._reloading:
            loaded, refused, unread = [], [], []
            self._seen = await self._look()
            for path in self.sources.paths:
                try:
                    bundle = await asyncio.to_thread(self._loads, partial(self._load_if_new, path))
                except (BundleRefused, OSError) as error:
                    if failed_look(error) is not None:
                        unread.append(str(error))
                        self._seen.pop(path, None)  # so that the next look finds a change
                        continue
                    refused.append(str(error))
                    _log.error("reload refused, %s stays: %s", self._held[path].manifest.bundle_id, error)
                    continue
                if bundle is not None:
                    self._held[path] = self._serve(bundle)
                    loaded.append(bundle.manifest.bundle_id)
            self.lineup = self._lineup()
        for ok in (*(True for _ in loaded), *(False for _ in refused)):
            self.metrics.reloaded("bundle", ok=ok)
        self._say_unread(unread)
        if loaded:
            self._tell()
            _log.info("now serving %s", ", ".join(loaded))
        return ReloadResult(tuple(loaded), tuple(refused), tuple(unread))

    async def watch(self, interval_s: float = WATCH_INTERVAL_S) -> None:
        """Reload whenever a pointer file changes; runs until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            if await self._look() != self._seen:
                await self.reload()

    async def _look(self) -> dict[Path, str]:
        """Return what each source leads to now, looked at off the event loop; what it led to where the disk hangs."""
        try:
            return self._said(await asyncio.to_thread(self._looks, self._pointers))
        except OSError as error:
            self._say_unread([f"{CURRENT}: cannot be read: {error.strerror}"])
            return self._seen

    def take_canary_back(self, why: str) -> None:
        """Let the default answer the canary's share too, until another canary is there."""
        if self.lineup.canary is None:
            return
        self._without_canary = self.lineup.canary.manifest.bundle_id
        _log.error("canary %s taken back: %s", self._without_canary, why)
        self.metrics.canary("rolled_back", 0.0)
        self.lineup = self._lineup()

    def hold(self, path: Path, bundle: Bundle) -> None:
        """Serve this bundle for one of the sources from now on."""
        self._held[path] = self._serve(bundle)
        self.lineup = self._lineup()

    def _load_if_new(self, path: Path) -> Bundle | None:
        """Return the warm bundle that `path` leads to now; None when it is the one held already."""
        held, folder = self._held[path].bundle, resolve(path)
        if folder == held.folder and read_manifest(folder) == held.manifest:
            return None
        bundle = self._load(folder)
        is_challenger = path in (self.sources.canary, self.sources.shadow) and path not in self.sources.bundles
        beside = self._held[self.sources.bundles[0]].bundle if is_challenger else held
        self._check_fits(bundle.manifest, beside.manifest)
        warm_up(bundle)
        return bundle

    def _load(self, folder: Path) -> Bundle:
        """Load a bundle, and say where its first stage or its rungs can't answer in C though they were to."""
        bundle = load_bundle(folder, self.sources.trusted_key, native=self.sources.native_head)
        head = bundle.fast_head
        if self.sources.native_head and head is not None and head.native is None:
            _log.warning("%s: the first stage answers by the graph, at a tenth of the rate: %s", folder, head.path)
        elif self.sources.native_head and bundle.rung_heads is not None and not bundle.rung_heads.is_native:
            _log.warning(
                "%s: p of the rungs between is said by their graph, at 60 us a request: %s",
                folder,
                bundle.rung_heads.path,
            )
        return bundle

    def _check_challengers(self) -> None:
        """Refuse a canary or shadow that does not fit the default; a synthetic default is said aloud."""
        default = self._held[self.sources.bundles[0]].manifest
        if default.synthetic:
            _log.warning("%s was trained on synthetic data: for trying Turnout out, not for traffic", default.bundle_id)
        for path in (self.sources.canary, self.sources.shadow):
            if path is not None:
                self._check_fits(self._held[path].manifest, default)

    def _check_fits(self, new: Manifest, old: Manifest) -> None:
        """Refuse a bundle that would name other models than callers had, or comes from a demonstration."""
        rungs, others = ([rung.name for rung in manifest.ladder] for manifest in (new, old))
        if rungs != others and not self.sources.allow_other_pair:
            of = "the pair" if len(rungs) == len(others) == 2 else "the ladder"
            raise BundleRefused(
                f"{new.bundle_id} is of {of} {' / '.join(reversed(rungs))}, and {old.bundle_id} of "
                f"{' / '.join(reversed(others))}; where that is meant: --allow-other-pair"
            )
        if new.synthetic and not old.synthetic and not self.sources.allow_synthetic:
            raise BundleRefused(
                f"{new.bundle_id} was trained on synthetic data, and {old.bundle_id} was not; "
                "where that is meant: --allow-synthetic"
            )

    def _serve(self, bundle: Bundle) -> Served:
        return Served(bundle, PredictionCache(self.sources.cache_items))

    def _lineup(self) -> Lineup:
        canary, shadow = (
            None if path is None else self._held[path] for path in (self.sources.canary, self.sources.shadow)
        )
        if canary is not None and canary.manifest.bundle_id == self._without_canary:
            canary = None
        return Lineup(tuple(self._held[path] for path in self.sources.bundles), canary, shadow)

    def _tell(self) -> None:
        """Tell the metrics who serves now."""
        self.metrics.serves([one.manifest for one in self.lineup.everyone])
        for one in self.lineup.everyone:
            self.metrics.native_head(one.manifest.bundle_id, is_native=one.bundle.is_native)
        if self.lineup.canary is not None:
            self.metrics.canary("started", self.sources.canary_share)

    def _said(self, looked: tuple[dict[Path, str], list[str]]) -> dict[Path, str]:
        self._say_unread(looked[1])
        return looked[0]

    def _pointers(self) -> tuple[dict[Path, str], list[str]]:
        """Return what each source leads to, where that can't be seen, what it led to when last seen; and why not."""
        pointers, unread = {}, []
        for path in self.sources.paths:
            try:
                pointers[path] = str(resolve(path))
            except BundleRefused as error:
                if failed_look(error) is None:
                    pointers[path] = str(error)  # a change all the same: reload reports it once
                    continue
                unread.append(str(error))
                if path in self._seen:
                    pointers[path] = self._seen[path]
        return pointers, unread

    def _say_unread(self, messages: list[str]) -> None:
        """Count looks that failed, and log each cause once a minute."""
        for message in messages:
            self.metrics.looked("bundle", "unread")
            now_s = time.monotonic()
            if now_s - self._said_at_s.get(message, -math.inf) >= SAY_EVERY_S:
                self._said_at_s = {message: now_s}
                _log.warning("%s; what is served stays, and the next look tries again", message)


def warm_up(bundle: Bundle) -> None:
    """Run prompts of several lengths through the fast head and through the whole model."""
    prompts = [prompt_from_text("word " * n_words) for n_words in WARM_UP_WORDS]
    prompts += [prompt_from_text(golden.prompt) for golden in bundle.golden[:8]]
    for prompt in prompts:
        for early_exit in (True, False):
            decide(bundle, prompt, bundle.manifest.policy(""), early_exit=early_exit)
