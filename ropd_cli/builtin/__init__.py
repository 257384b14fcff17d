"""``builtin://checkable``: teacher and judges (rubricator, verifier, scorer) for small checkable tasks.

There is no language model in here. ``solvers`` knows some kinds of questions by their wording and works their results
out; ``teacher`` writes the result in different ways; ``rule_judges`` has the rubricator, which picks from the checks in
``criteria_checks`` those that tell the references from the other answers, the verifier, which applies checks to any
text, and the scorer, which applies all of them. ``server`` is the OpenAI-compatible server around them (in process, or
over HTTP by ``ropd serve-judge``).

It is for trying the toolkit where no endpoint is at hand, for tests, and for tasks whose answers can be
worked out anyway. It can't judge what it can't work out and says so with status 400.
"""

from ropd_cli.llm.transport import Transport, register


def _open(name: str) -> Transport:
    from ropd_cli.builtin.server import InProcess  # the rules are loaded where they are asked

    return InProcess(name.strip("/"))


register("builtin", _open)
