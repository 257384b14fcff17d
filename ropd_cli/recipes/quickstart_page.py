"""A quickstart's outcome as one self-contained HTML page: the page of its run, led by what the student learned."""

from __future__ import annotations

from html import escape

from ropd_cli.analysis.run_data import RunData
from ropd_cli.answers.exact_match import is_exact
from ropd_cli.recipes.quickstart_summary import Outcome, Sample
from ropd_cli.report.run_page import page as run_page


def page(outcome: Outcome, run: RunData) -> str:
    """The whole page."""
    return run_page(run, title="What the student learned", lead=lead(outcome), places=_places(outcome))


def lead(outcome: Outcome) -> str:
    """The student on prompts that it was not trained on, before and after."""
    low, high = outcome.difference.low, outcome.difference.high
    said = (
        "The student learned: the whole interval of the change lies above 0."
        if outcome.learned
        else "The interval of the change holds 0: this run does not show that the student learned."
    )
    samples = "\n".join(_sample(sample) for sample in outcome.samples)
    return f"""<h3>The student before and after</h3>
<p class="{"good" if outcome.learned else "bad"}">{said}</p>
<p>Exact match on {outcome.held_out} prompts that it was not trained on, one greedy answer each:</p>
<div class="wide"><table>
{_accuracy("before training", outcome.accuracy_before)}
{_accuracy("after training", outcome.accuracy_after)}
<tr><td>change</td><td class="n">{100 * outcome.difference.mean:+.1f} points</td>
<td>95% interval {100 * low:+.1f} to {100 * high:+.1f} <span class="dim">(paired bootstrap over the
prompts; another seed of the training may come out elsewhere)</span></td></tr></table></div>
<p>The first three of them:</p>
<div class="wide"><table><tr><th>prompt</th><th>before</th><th>after</th></tr>
{samples}
</table></div>"""


def _places(outcome: Outcome) -> str:
    seconds = ", ".join(f"{escape(name)} {value:.0f} s" for name, value in outcome.seconds.items())
    minutes = sum(outcome.seconds.values()) / 60
    return f"""<div class="wide"><table>
<tr><td>the trained student</td><td><code>{escape(outcome.checkpoint)}</code></td></tr>
<tr><td>groups, rubrics, verdicts</td><td><code>ropd inspect-rubrics {escape(outcome.run_dir)}</code></td></tr>
<tr><td>time of the whole</td><td>{minutes:.1f} min <span class="dim">({seconds})</span></td></tr>
</table></div>"""


def _accuracy(name: str, value: float) -> str:
    bar = f'<span class="meter"><i style="width:{value:.1%}"></i></span>'
    return f'<tr><td>{name}</td><td class="n">{value:.1%}</td><td>{bar}</td></tr>'


def _sample(sample: Sample) -> str:
    def cell(text: str) -> str:
        css, word = ("met", "right") if is_exact(text, sample.answer) else ("failed", "wrong")
        return f'<td><code>{escape(text)}</code> <span class="{css}">{word}</span></td>'

    return f"<tr><td><code>{escape(sample.question)}</code></td>{cell(sample.before)}{cell(sample.after)}</tr>"
