"""Every error a user can expect, and the exit code it ends the command with.

RopdError                  1  a run failed
├── InputError             2  bad usage, prompts, files
│   ├── ConfigError        2  configuration: all its faults at once
│   ├── MissingPackage     2  an optional package the command needs
│   ├── OutputBusy         2  another process writes the output
│   ├── IndexMissing       2  the teacher index has no row for a prompt
│   ├── TooFewAnswers      2  … or fewer distinct answers than asked for
│   └── PromptRefused      2  a local model does not take a prompt
├── ProviderError          4  a model endpoint
│   ├── ProviderUnreachable   no connection, no answer in time, or no answer of a model's API
│   │   └── ProviderDown       … for so long that waiting for it was given up
│   ├── ProviderRefused       the endpoint answered 4xx: key, model name, rights, request
│   ├── ProviderBusy          the endpoint answered 429 or 5xx until the retries were used up
│   ├── BatchRefused          a request of a batch came back without a reply
│   └── ReplyInvalid       1  a reply that can't be used: not JSON, not the schema, cut off
│       └── TooFewReplies  1  … so often that a prompt has fewer different ones than asked for
├── CostLimit              1  the next request could cost more than the run may
├── JudgeError             1  a group that could not be judged (it is missing, never scored 0)
├── TrainingError          1  the training process failed or hung
└── NoSpace                1  the disk is full, or will be

Exit code 3 (finished, with some records failed) and 130 (interrupted) are no exceptions:
a command that finished returns them.
"""

from __future__ import annotations

import errno
import os

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_INPUT = 2
EXIT_PARTIAL = 3
EXIT_PROVIDER = 4
EXIT_INTERRUPTED = 130


class RopdError(Exception):
    """An expected error: one line of what and where, one line of how to mend it.

    ``message`` names the file and line, the configuration key or the URL; ``hint`` says what to do.
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:  # errors cross process borders in training
        return _rebuild, (type(self), self.message, self.hint, dict(self.__dict__))


def _rebuild(kind: type[RopdError], message: str, hint: str | None, state: dict) -> RopdError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.message, error.hint = message, hint
    error.__dict__.update(state)
    return error


def expected_error(fault: BaseException) -> RopdError | None:
    """Return the expected error in an exception; task groups raise theirs inside exception groups. None where one of
    a group is unexpected: a fault of the program, whose traceback must not be hidden."""
    if isinstance(fault, BaseExceptionGroup):
        inner = [expected_error(each) for each in fault.exceptions]
        return inner[0] if all(inner) else None
    # Without a file's name it is a socket's or a pipe's fault, and those are the client's to explain.
    if isinstance(fault, OSError) and (fault.errno in _FULL or isinstance(fault.filename, str | bytes | os.PathLike)):
        return file_error(fault)
    return fault if isinstance(fault, RopdError) else None


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HINTS = {
    errno.ENOENT: "check the path; paths are taken from the current directory",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "its symbolic links lead in a circle: give the file itself",
    errno.EROFS: "choose a place you may write to",
    errno.EIO: "the disk can't be read or written there: see the system's log, or copy the file to another disk",
    errno.EMFILE: "raise the limit of open files: ulimit -n",
}


def file_error(fault: OSError, path: object = None) -> RopdError:
    """Return what the operating system says of a file as an error that a user can mend. ``path`` is the name that the
    user knows, where the system's is another."""
    place = path if path is not None else fault.filename
    where = f"{os.fsdecode(place)}: " if isinstance(place, str | bytes | os.PathLike) else ""
    if fault.errno in _FULL:
        return NoSpace(f"{where}no space left on the disk", "make room, then run the same command again")
    if isinstance(fault, PermissionError):
        return InputError(f"{where}permission denied", "check its permissions, or choose a place you may write to")
    kind = RopdError if fault.errno == errno.EIO else InputError
    return kind(f"{where}{fault.strerror or fault}", _HINTS.get(fault.errno or 0, "choose another path"))


class InputError(RopdError):
    """Something the user gave can't be used as it is."""

    exit_code = EXIT_INPUT


class ConfigError(InputError):
    """All faults of a configuration at once; ``problems`` holds one line each."""

    def __init__(self, problems: list[str], source: str, hint: str | None = None) -> None:
        self.problems = list(problems)
        lines = "; ".join(self.problems)
        count = "" if len(self.problems) == 1 else f"{len(self.problems)} problems: "
        super().__init__(f"{source}: {count}{lines}", hint)


INSTALL_CPU = "on a CPU: make env in a clone of ropd's repository"
INSTALL_STACK = f"on a GPU machine: pip install 'ropd-cli[gpu]'; {INSTALL_CPU}"
"""Hints for an installation without verl or vLLM; extras cannot name the CPU builds."""
REPLY_HINT = "try another judge model; raise its max_tokens where replies are cut off"
"""Hint for a judge's reply that can't be used."""


class MissingPackage(InputError):
    """A command needs a package that this installation lacks."""


class OutputBusy(InputError):
    """Another process writes the output."""


class IndexMissing(InputError):
    """The teacher index holds no answers for a prompt."""


class TooFewAnswers(InputError):
    """The teacher index holds fewer distinct answers for a prompt than m."""


class PromptRefused(InputError):
    """A local model does not take a prompt, for example one longer than it allows."""


class ProviderError(RopdError):
    """A model endpoint could not serve a request."""

    exit_code = EXIT_PROVIDER


class ProviderUnreachable(ProviderError):
    """No connection, no answer in time, or none of a model's API: a web page, JSON without a reply."""


class ProviderDown(ProviderUnreachable):
    """An endpoint that answered before has stopped, and was waited for as long as ``limits.max_pause_s`` says.

    Nobody's record failed of it: a stage and a training run stop, and go on from there when run again.
    """


class ProviderRefused(ProviderError):
    """The endpoint understood and said no: wrong key, unknown model, forbidden, malformed request."""


class AccountEnded(ProviderRefused):
    """The account can't pay any more, its quota is used up, or its key is none: no other request can succeed either.

    Nobody's record failed of it: a stage and a training run stop, and go on from there when run again.
    """


class ProviderBusy(ProviderError):
    """The endpoint kept answering 429 or 5xx until the retries were used up."""


class BatchRefused(ProviderError):
    """A request that was handed over in a batch came back without a reply; nothing else is sent for it."""


class ReplyInvalid(ProviderError):
    """A reply that can't be used: not JSON, not of the schema, empty, cut off."""

    exit_code = EXIT_FAILED


class TooFewReplies(ReplyInvalid):
    """A prompt got fewer different usable answers than asked for, with all its tries."""


class CostLimit(RopdError):
    """The next request could cost more than ``max_cost`` leaves. What is done is kept."""


class JudgeError(RopdError):
    """A group that could not be judged: it is missing, never scored 0."""


class TrainingError(RopdError):
    """The training process failed, hung or was stopped by a limit of the configuration."""


class NoSpace(RopdError):
    """The disk is full, or has less room than the next step needs."""
