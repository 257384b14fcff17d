"""Teacher-gen: m distinct answers of one or several teachers to each prompt.

``plan`` says who is asked for how many, ``collect`` gathers the answers to one prompt round by round, ``keep`` decides
which of them count, ``run`` works through a file of prompts.
"""

from ropd_cli.stages.teacher.batch_rounds import collected, fill_by_batches
from ropd_cli.stages.teacher.generate import pending, teacher_gen
from ropd_cli.stages.teacher.request import TRIES_PER_ANSWER, Teacher, TeacherCount, TeacherFiles, Wanted

__all__ = [
    "TRIES_PER_ANSWER",
    "Teacher",
    "TeacherCount",
    "TeacherFiles",
    "Wanted",
    "collected",
    "fill_by_batches",
    "pending",
    "teacher_gen",
]
