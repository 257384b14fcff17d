"""``builtin://checkable``: teacher, rubricator and verifier for small checkable tasks, made of rules.

There is no language model in here. ``solvers`` knows some kinds of questions by their wording and works
their results out; ``teacher`` writes the result in different ways; ``rubricator`` picks, from the checks in
``checks``, those that tell the references from the other answers; ``verifier`` applies checks to any text.
``app`` is the OpenAI-compatible server around them (in process, or over HTTP by ``ropd serve-judge``).

It is for trying the toolkit where no endpoint is at hand, for tests, and for tasks whose answers can be
worked out anyway. It can't judge what it can't work out and says so with status 400.
"""
