"""Overlap of prompts with questions of evaluation sets, by runs of n words.

Contest problems share whole sentences ("… where m and n are relatively prime positive integers. Find m + n."): a run
that many questions of a set or many of the prompts have is *form*. It says nothing alone, and counts only where a
prompt has at least half of a question's runs.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from ropd_cli.datasets.eval_sets import EvalSet
from ropd_cli.datasets.text_words import words

FORM_SHARE = 0.1
"""A run in more than this share of a set's questions is form …"""
FORM_COUNT = 10
"""… where these are more than so many questions; and so is a run in more than so many prompts."""
FORM_COVERAGE = 0.5
"""The share of a question's runs that a prompt must have where all that they share is form."""
WHOLE_WORDS = 5
"""A question of fewer words than this hits only a prompt that is the same."""


@dataclass(frozen=True)
class Hit:
    """A prompt shares words with the question ``item`` of ``set``. ``words`` are those, None where the set is not one
    whose text may be shown; ``hash`` stands for them, 16 hex digits."""

    set: str
    item: str
    hash: str
    words: str | None


@dataclass(frozen=True)
class _Question:
    eval_set: EvalSet
    item: str
    runs: int

    def hit(self, run: str) -> Hit:
        digest = hashlib.sha256(run.encode()).hexdigest()[:16]
        return Hit(self.eval_set.name, self.item, digest, run if self.eval_set.shows_text else None)


class Overlap:
    """The questions of evaluation sets by their runs of ``n`` words. A shorter question is one run, all of it."""

    def __init__(self, sets: Iterable[EvalSet], n: int) -> None:
        self.n = n
        self._all: list[_Question] = []
        self._runs: dict[str, list[int]] = defaultdict(list)
        self._short: dict[str, dict[int, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
        self._same: dict[str, int] = {}
        self._form: set[str] = set()
        for each in sets:
            self._add(each)

    def find(self, texts: Iterable[str]) -> list[Hit | None]:
        """For each text what it shares with a question, or None, shape (number of texts,)."""
        shared_T = [self._shared(text) for text in texts]
        counts = Counter(run for shared in shared_T for run in (shared if isinstance(shared, list) else ()))
        form = self._form | {run for run, count in counts.items() if count > FORM_COUNT}
        return [self._judge(shared, form) if isinstance(shared, list) else shared for shared in shared_T]

    def _shared(self, text: str) -> list[str] | Hit:
        """The different runs that a text has of any question, in its order; a hit where it holds a short one whole."""
        tokens = words(text)
        whole = " ".join(tokens)
        if whole in self._same:
            return self._all[self._same[whole]].hit(whole)
        runs: dict[str, None] = {}
        for start, word in enumerate(tokens):
            for length, questions in self._short.get(word, {}).items():
                run = " ".join(tokens[start : start + length])
                if run in questions:
                    return self._all[questions[run]].hit(run)
            run = " ".join(tokens[start : start + self.n])
            if run in self._runs:  # near the end of the text it has fewer words than any of these
                runs[run] = None
        return list(runs)

    def _judge(self, runs: list[str], form: set[str]) -> Hit | None:
        for run in runs:
            if run not in form:
                return self._all[self._runs[run][0]].hit(run)
        counts = Counter(number for run in runs for number in self._runs[run])
        for number, count in counts.most_common(1):
            question = self._all[number]
            if count >= FORM_COVERAGE * question.runs:
                return question.hit(next(run for run in runs if number in self._runs[run]))
        return None

    def _add(self, eval_set: EvalSet) -> None:
        texts = {" ".join(tokens): (tokens, q.id) for q in eval_set.questions if (tokens := words(q.text))}
        counts: Counter[str] = Counter()
        for whole, (tokens, item) in texts.items():
            number = len(self._all)
            own = {" ".join(tokens[k : k + self.n]): None for k in range(len(tokens) - self.n + 1)}
            self._all.append(_Question(eval_set, item, len(own)))
            if len(tokens) < min(WHOLE_WORDS, self.n):
                self._same.setdefault(whole, number)
            elif len(tokens) < self.n:
                self._short[tokens[0]][len(tokens)].setdefault(whole, number)
            for run in own:
                counts[run] += 1
                self._runs[run].append(number)
        limit = max(FORM_COUNT, FORM_SHARE * len(texts))
        self._form.update(run for run, count in counts.items() if count > limit)
