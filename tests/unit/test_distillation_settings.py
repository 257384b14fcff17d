"""Methods with a teacher checkpoint: what is refused before the start, what the teacher's server is asked, and that no
method reads another's section."""

from __future__ import annotations

import json

import orjson
import pytest
from servers import Raw, ScriptedServer, Status

from ropd_cli.config import EndpointConfig, RopdConfig
from ropd_cli.errors import ConfigError, InputError, ProviderRefused, ProviderUnreachable, ReplyInvalid
from ropd_cli.llm.prompt_logprobs import PromptLogProbs
from ropd_cli.llm.retry import NO_WAIT
from ropd_cli.methods import check_sections, method_of
from ropd_cli.methods.base import Resources
from ropd_cli.methods.distilled import teacher_server
from ropd_cli.records.schemas import Answer, Group, Message, Prompt


def config(**tree):
    return RopdConfig.model_validate({"method": "lopd"} | tree)


def teacher(tmp_path):
    folder = tmp_path / "teacher"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    return str(folder)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"rollout": {"temperature": 0.7}}, "rollout.temperature is 0.7: the teacher's log-probabilities are those at"),
        ({"rollout": {"top_p": 0.9}}, "rollout.top_p is 0.9"),
        ({"train": {"kl_coef": 0.1}}, "train.kl_coef is 0.1, and the loss of lopd has no such term"),
        ({"train": {"refill": {"zero_variance": True}}}, "train.refill.zero_variance: rewards are equal"),
        ({"monitor": {"share": 0.5}}, "monitor.share is 0.5"),
        ({"distil": {"devices": 3, "tensor_parallel_size": 2}}, "distil.devices 3 is no multiple"),
    ],
)
def test_settings_that_do_not_fit_are_named(tmp_path, tree, said):
    tree = tree | {"distil": {"teacher_path": teacher(tmp_path)} | tree.get("distil", {})}
    with pytest.raises(ConfigError) as fault:
        method_of(config()).check(config(**tree), [])
    assert len(fault.value.problems) == 1 and said in fault.value.problems[0]


def test_a_teacher_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="method lopd") as fault:
        method_of(config()).check(config(), [])
    assert len(fault.value.problems) == 1 and "distil.teacher_path is not set" in fault.value.problems[0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        method_of(config()).check(config(distil={"teacher_path": str(tmp_path / "empty")}), [])
    method_of(config()).check(config(distil={"teacher_path": teacher(tmp_path)}), [])


def test_a_part_of_the_reward_that_lacks_its_answer(tmp_path):
    tree = {"distil": {"teacher_path": teacher(tmp_path)}, "reward": {"exact": 1}}
    with pytest.raises(InputError, match="reward.exact has a weight"):
        method_of(config()).check(config(**tree), [Prompt(uid="a", prompt="1 + 1")])


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"method": "ropd", "distil": {"teacher_path": "x"}}, ["distil.teacher_path"]),
        (
            {"method": "ropd", "distil": {"devices": 2, "endpoint": {"model": "m"}}},
            ["distil.devices", "distil.endpoint.model"],
        ),
        ({"method": "ropd", "distil": {"devices": 1}}, []),
        ({"method": "lopd", "distil": {"teacher_path": "x"}}, []),
    ],
)
def test_a_section_of_another_method_is_refused_where_it_says_something(tree, said):
    if not said:
        return check_sections(config(**tree))
    with pytest.raises(ConfigError) as fault:
        check_sections(config(**tree))
    assert fault.value.problems == [f"{key}: method ropd reads no distil section" for key in said]


def rewarder_of(config):
    return method_of(config).rewarder(Resources(config, None, None, None))  # it asks nobody


async def test_rewards_are_0_and_the_parts_are_there_for_the_curves():
    group = Group(
        uid="a",
        prompt=(Message(role="user", content="1 + 1"),),
        raw_prompt_hash="0" * 64,
        teacher_answers=(),
        rollouts=(Answer(text="\\boxed{2}"), Answer(text="<think>3")),
        answer="2",
    )
    plain = await rewarder_of(config()).reward(group)
    assert (plain.verdicts.rewards, plain.verdicts.parts, plain.rubric) == ((0.0, 0.0), {}, None)
    mixed = await rewarder_of(config(reward={"exact": 1})).reward(group)
    assert (mixed.verdicts.rewards, mixed.verdicts.parts) == ((0.0, 0.0), {"exact": (1.0, 0.0)})


def reply(entries):
    return Raw(orjson.dumps({"choices": [{"text": "x", "prompt_logprobs": entries}]}))


def entry(token, value):
    return {str(token): {"logprob": value, "rank": 3, "decoded_token": "x"}}


def client(server, **fields):
    endpoint = EndpointConfig(base_url=server.url, model="big", api_key_env="TEACHER_KEY", **fields)
    return PromptLogProbs(endpoint, NO_WAIT, {"TEACHER_KEY": "s3cret"})


async def test_log_probabilities_of_the_tokens_that_were_sent():
    with ScriptedServer() as server:
        server.script(Status(503), reply([None, entry(5, -0.25), entry(7, -2)]))
        teacher = client(server)
        assert await teacher.of([3, 5, 7]) == [-0.25, -2.0]
        await teacher.close()
    assert len(server.requests) == 2
    request = server.requests[1]
    assert request.path == "/v1/completions" and request.headers["authorization"] == "Bearer s3cret"
    body = request.body
    assert (body["model"], body["prompt"], body["prompt_logprobs"], body["max_tokens"]) == ("big", [3, 5, 7], 0, 1)


@pytest.mark.parametrize(
    ("step", "kind", "said"),
    [
        (Raw(b'{"choices": [{"text": "x"}]}'), ProviderRefused, "holds no prompt_logprobs"),
        (Raw(b"<html>"), ProviderRefused, "holds no prompt_logprobs"),
        (reply(None), ReplyInvalid, "not those of the 3 tokens"),
        (reply([None, entry(5, -1)]), ReplyInvalid, "not those of the 3 tokens"),
        (reply([None, entry(5, -1), entry(8, -1)]), ReplyInvalid, "not those of the 3 tokens"),
        (Status(404, "no such model"), ProviderRefused, "no such model"),
    ],
)
async def test_a_server_that_is_none_of_a_teacher_s(step, kind, said):
    with ScriptedServer() as server:
        server.default = step
        teacher = client(server)
        with pytest.raises(kind, match=said):
            await teacher.of([3, 5, 7])
        assert len(server.requests) == 1
        await teacher.close()


async def test_a_server_that_is_away_is_tried_as_often_as_is_said():
    with ScriptedServer() as server:
        server.down()
        teacher = client(server, limits={"max_retries": 2})
        with pytest.raises(ProviderUnreachable, match="no connection"):
            await teacher.of([3, 5])
        await teacher.close()


def test_the_server_s_model_is_the_teacher_where_no_name_is_given(tmp_path):
    tree = {"distil": {"teacher_path": "big/teacher", "endpoint": {"base_url": "http://localhost:1/v1"}}}
    assert teacher_server(config(**tree))._endpoint.model == "big/teacher"
    settings = json.dumps(method_of(config()).verl_settings(config(**tree)))
    assert "has_teacher_server" in settings and "teacher_models" not in settings
