"""How each kind of benchmark asks and grades."""

from __future__ import annotations

from typing import Literal

from ropd_cli.evaluation.graders import Tools
from ropd_cli.evaluation.samples import Task

Kind = Literal["math", "integer", "choice", "exact", "ifeval", "healthbench", "rubric", "teacher"]


def open_task(kind: Kind, benchmark: str, tools: Tools) -> Task:
    """The task of a kind for one benchmark. Raises InputError where it needs a judge and none is configured."""
    if kind == "math":
        from ropd_cli.evaluation.tasks.maths import MathTask

        return MathTask(tools.maths)
    if kind == "integer":
        from ropd_cli.evaluation.tasks.integer import IntegerTask

        return IntegerTask()
    if kind == "choice":
        from ropd_cli.evaluation.tasks.multiple_choice import ChoiceTask

        return ChoiceTask(tools.seed)
    if kind == "exact":
        from ropd_cli.evaluation.tasks.exact_string import ExactTask

        return ExactTask()
    if kind == "ifeval":
        from ropd_cli.evaluation.tasks.ifeval import IfevalTask

        return IfevalTask()
    if kind == "healthbench":
        from ropd_cli.evaluation.tasks.healthbench import HealthBenchTask

        return HealthBenchTask(tools.judge(benchmark))
    if kind == "teacher":
        from ropd_cli.evaluation.tasks.teacher_rubric_task import TeacherTask

        rubricator, verifier = tools.rubricator(benchmark), tools.judge(benchmark)
        return TeacherTask(rubricator, verifier, tools.index, tools.config.judge, tools.seed)
    from ropd_cli.evaluation.tasks.rubric_task import RubricTask

    return RubricTask(tools.judge(benchmark), settings=tools.config.judge)
