"""What graders share: the processes that compare results, and the judge."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal

from ropd_cli.answers.math_equal import MathGrader
from ropd_cli.config import RopdConfig
from ropd_cli.errors import InputError
from ropd_cli.index import TeacherIndex
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.chat import ClientStats
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.shared import Shared
from ropd_cli.llm.urls import model_name


class Tools:
    """Opened with the evaluation, closed with it. An async context manager; ``judge`` and ``maths`` may be asked for
    before it is entered, and are used within."""

    def __init__(
        self, config: RopdConfig, cache: ReplyCache | None, shared: Shared, environ: Mapping[str, str]
    ) -> None:
        self.config, self.seed = config, config.seed
        self._cache, self._shared, self._environ = cache, shared, environ
        self._stack = AsyncExitStack()
        self._maths: MathGrader | None = None
        self._judges: dict[tuple[str, str], ChatClient] = {}
        self._index: TeacherIndex | None = None
        self.judge_stats: dict[str, ClientStats] = {}
        """By benchmark."""

    @property
    def maths(self) -> MathGrader:
        """The processes that compare results; they start when they are first needed."""
        if self._maths is None:
            self._maths = MathGrader()
        return self._maths

    def judge(self, benchmark: str) -> ChatClient:
        """The verifier, counted for a benchmark. Raises InputError where none is configured."""
        return self._client("verifier", benchmark)

    def rubricator(self, benchmark: str) -> ChatClient:
        """The rubricator, counted for a benchmark. Raises InputError where none is configured."""
        return self._client("rubricator", benchmark)

    @property
    def index(self) -> TeacherIndex:
        """The teacher index of the configuration. Raises InputError where none is named."""
        if self._index is None:
            if self.config.data.index is None:
                raise InputError("data.index is not set", "name the teacher index: --set data.index=teacher.index")
            self._index = TeacherIndex.open(Path(self.config.data.index))
            self._stack.callback(self._index.close)
        return self._index

    def _client(self, role: Literal["verifier", "rubricator"], benchmark: str) -> ChatClient:
        if (role, benchmark) not in self._judges:
            endpoint = getattr(self.config, role)
            endpoint = endpoint.model_copy(update={"model": model_name(endpoint, role)})
            stats = self.judge_stats.setdefault(benchmark, ClientStats())
            self._judges[role, benchmark] = ChatClient.open(
                endpoint, cache=self._cache, environ=self._environ, shared=self._shared, stats=stats
            )
        return self._judges[role, benchmark]

    async def __aenter__(self) -> Tools:
        if self._maths is not None:
            await self._stack.enter_async_context(self._maths)
        for client in self._judges.values():
            await self._stack.enter_async_context(client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
