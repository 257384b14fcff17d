"""What the rubricator, the verifier and the scorer have in common: an endpoint, settings and templates."""

from __future__ import annotations

from ropd_cli.config import EndpointConfig, JudgeConfig
from ropd_cli.llm.client import ChatClient, ChatRequest, JsonSchema, endpoint_request
from ropd_cli.method.block import Block, build_block
from ropd_cli.method.prompts import Templates
from ropd_cli.records.schemas import Group, Message


class Judge:
    """A judge of groups. ``model`` is the client that its requests go through, or only the endpoint where requests are
    counted and none is sent."""

    def __init__(
        self, model: ChatClient | EndpointConfig, settings: JudgeConfig, templates: Templates | None = None
    ) -> None:
        self._client = model if isinstance(model, ChatClient) else None
        self.endpoint = model.endpoint if isinstance(model, ChatClient) else model
        self.settings = settings
        self.templates = templates or Templates.load(settings)

    @property
    def client(self) -> ChatClient:
        """The client that requests go through."""
        assert self._client is not None, "this judge was made to count requests, not to send them"
        return self._client

    def known_settings(self, seed: int) -> dict[str, object]:
        """Return the settings, by key, that the records of this judge depend on and do not hold."""
        sampling = self.endpoint.sampling.model_dump(mode="json", exclude={"max_tokens"})
        judge = self.settings.model_dump(mode="json", exclude={"templates", "max_failed_fraction", "repair"})
        known = {f"sampling.{name}": value for name, value in sampling.items()}
        return known | {f"judge.{name}": value for name, value in judge.items()} | {"seed": seed}

    def block(self, group: Group) -> Block:
        """The group as it is shown. All judges show the same: who asks several of a group makes it once."""
        return build_block(group, self.settings.max_answer_tokens)

    def _request(
        self, whole: Block, shown: Block, messages: tuple[Message, ...], form: JsonSchema, sample: int = 0
    ) -> ChatRequest:
        """A request about the group of the block ``whole`` that shows the block ``shown``."""
        written = self.templates.written(shown, messages)
        return endpoint_request(self.endpoint, messages, form, sample=sample, affinity=whole.tag, written=written)
