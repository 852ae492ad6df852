from typing import Self, TypeAlias

Look: TypeAlias = tuple[float, bool, bool, bytes, tuple[bytes, bytes, bytes] | None, tuple[float, ...]]

class Head:
    def __new__(
        cls,
        words: dict[bytes, int],
        continuations: dict[bytes, int],
        unknown: int,
        max_word_chars: int,
        ends: tuple[int, int],
        encoder_reads: tuple[int, int],
        weights: tuple[bytes, ...],
        calibrator: int,
    ) -> Self: ...
    def look(
        self,
        text: str,
        n_bytes: int,
        turns: int,
        tools: int,
        wants_json: bool,
        images: int,
        threshold: float,
        also: float,
        wants_features: bool,
        /,
    ) -> Look | int | None: ...
    def ngrams(self, text: str, /) -> tuple[bytes, bytes] | int | None: ...
    def take_rungs(self, weights: tuple[bytes, ...], /) -> None: ...
    def teach(self, block: int, entries: bytes, /) -> None: ...
