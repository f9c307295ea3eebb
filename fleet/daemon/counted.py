"""Providers as the loop gets them: every error that a cloud answers is counted on its way through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ...providers.base import (
    Check,
    CloudInstance,
    Forewarned,
    Forewarning,
    LaunchRequest,
    LaunchResult,
    Offer,
    Provider,
    ProviderError,
)

T = TypeVar("T")
Count = Callable[[str, str], None]
"""Called with the provider's name and the error's code."""


class CountedProvider:
    """A Provider, and Forewarned, that passes everything on to `inner`."""

    def __init__(self, inner: Provider, count: Count) -> None:
        self.inner = inner
        self.name = inner.name
        self.count = count

    def offers(self) -> Sequence[Offer]:
        return self._counted(self.inner.offers)

    def launch(self, request: LaunchRequest) -> LaunchResult:
        answer = self._counted(lambda: self.inner.launch(request))
        for error in answer.errors:
            self.count(self.name, error.code)
        return answer

    def instances(self) -> Sequence[CloudInstance]:
        return self._counted(self.inner.instances)

    def terminate(self, ref: str) -> None:
        self._counted(lambda: self.inner.terminate(ref))

    def check(self) -> Sequence[Check]:
        return self._counted(self.inner.check)

    def notices(self) -> Sequence[Forewarning]:
        return self._counted(self.inner.notices) if isinstance(self.inner, Forewarned) else ()

    def settle(self, forewarnings: Sequence[Forewarning]) -> None:
        inner = self.inner
        if isinstance(inner, Forewarned):
            self._counted(lambda: inner.settle(forewarnings))

    def close(self) -> None:
        self.inner.close()

    def _counted(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except ProviderError as error:
            self.count(self.name, error.code)
            raise


@dataclass(frozen=True, slots=True)
class LiveProviders(Mapping[str, Provider]):
    """The providers in force, looked up anew each time: for the loop, which outlives configurations."""

    current: Callable[[], Mapping[str, Provider]]
    count: Count

    def __getitem__(self, name: str) -> Provider:
        return CountedProvider(self.current()[name], self.count)

    def __iter__(self) -> Iterator[str]:
        return iter(self.current())

    def __len__(self) -> int:
        return len(self.current())
