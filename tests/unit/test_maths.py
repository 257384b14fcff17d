"""Equal results are equal however they are written, others are not, and nothing takes longer than its limit."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from ropd_cli.answers.exact_match import is_exact
from ropd_cli.answers.math_equal import MathGrader, stated_result

EQUAL = [
    (r"\frac{1}{2}", "0.5"),
    (r"\frac12", "1/2"),
    (r"\dfrac{3}{6}", r"\tfrac{1}{2}"),
    ("1,000", "1000"),
    (r"1{,}000{,}000", "10^6"),
    (r"\sqrt{8}", r"2\sqrt{2}"),
    (r"2^{10}", "1024"),
    (r"x = 5", "5"),
    (r"(1, 2)", r"\left(1, 2\right)"),
    (r"\{1, 2\}", r"\{2, 1\}"),
    (r"50\%", "50"),
    (r"50\%", "0.5"),
    (r"90^\circ", "90"),
    (r"5\text{ cm}", "5"),
    (r"\text{(B)}", "(B)"),
    (r"x < 3", r"(-\infty, 3)"),
    (r"[0, 1)", r"0 \le x < 1"),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}"),
    (r"(x+1)^2", "x^2 + 2x + 1"),
    (r"\pi/4", r"\frac{\pi}{4}"),
    ("3 1/2", r"\frac{7}{2}"),
    ("1.5e3", "1500"),
    (r"-\frac{1}{3}", r"\frac{-1}{3}"),
    (r"\$12", "12"),
    (r"\log_2 8", "3"),
    ("0.3333333", "0.33333331"),
]
DIFFERENT = [
    (r"\frac{1}{2}", r"\frac{1}{3}"),
    ("0.5", "0.6"),
    ("1000", "1001"),
    ("12345678901", "12345678902"),
    (r"(1, 2)", r"(2, 1)"),
    (r"\{1, 2\}", r"\{1, 2, 3\}"),
    (r"[0, 1]", r"(0, 1)"),
    (r"\sqrt{2}", "1.5"),
    ("x^2", "x^3"),
    ("-3", "3"),
    (r"2\sqrt{3}", r"3\sqrt{2}"),
    ("1/3", "0.33"),
    ("5", ""),
    (r"\frac{\pi}{4}", r"\frac{\pi}{3}"),
]


@pytest.fixture(scope="module")
def graded():
    """(equal, answer to each pair) by one grader: its workers take a second to start."""

    async def grade():
        async with MathGrader(time_limit_s=20) as grader:
            tasks = [grader.same(*pair) for pair in EQUAL + DIFFERENT]
            return dict(zip(EQUAL + DIFFERENT, await asyncio.gather(*tasks), strict=True))

    return asyncio.run(grade())


@pytest.mark.parametrize("pair", EQUAL, ids=str)
def test_equal(graded, pair):
    assert graded[pair] is True


@pytest.mark.parametrize("pair", DIFFERENT, ids=str)
def test_different(graded, pair):
    assert graded[pair] is False


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (r"so \boxed{1} and then \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        ("We get 3.\nAnswer: 42.", "42"),
        ("**Answer:** $x=2$", "$x=2$"),
        ("The final answer is 7", "7"),
        ("worked\n#### 1,234", "1,234"),
        ("about 3/4", "3/4"),
        ("about 12 and 3/4", "12 and 3/4"),
        ("it costs 1,250.50 dollars.", "1,250.50"),
        ("<think>\\boxed{9}</think>\n\\boxed{8}", "8"),
        ("<think>\\boxed{9}", None),
        ("no result", None),
        ("", None),
    ],
)
def test_what_a_text_states(text, result):
    assert stated_result(text) == result


async def test_what_exact_calls_equal_needs_no_worker():
    async with MathGrader() as grader:
        for text, answer in ((r"\boxed{07}", "7"), (r"\boxed{\text{B}}", "B"), (r"\boxed{1,000}", "1000")):
            assert is_exact(text, answer)
            assert await grader.is_correct(text, answer) is True
        assert await grader.is_correct("no result at all", "7") is False
        assert not multiprocessing.active_children()


async def test_what_takes_forever_is_undecided_and_the_others_go_on():
    async with MathGrader(time_limit_s=1.0, workers=1) as grader:
        hostile = r"\boxed{9^{9^{9^{9}}}+x}"
        found = await asyncio.gather(
            grader.is_correct(hostile, "x"), grader.is_correct(r"\boxed{\frac{2}{4}}", r"\frac{1}{2}")
        )
        assert found[0] is not True and found[1] is True
        assert await grader.is_correct(r"\boxed{" + "{" * 3000 + "}" * 3000 + "}", "x+1") is not True
        assert await grader.same("x+x", "2x") is True
        workers = pids()
    assert workers and all(gone(pid) for pid in workers)


async def test_a_cancelled_comparison_leaves_no_worker():
    grader = MathGrader(time_limit_s=30.0, workers=1)
    async with grader:
        task = asyncio.create_task(grader.same(r"9^{9^{9^{9}}}+x", "x+y"))
        while not any(busy(pid) for pid in pids()):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await grader.same("x+x", "2x") is True  # its worker was ended, and another one compares
        workers = pids()
    assert workers and all(gone(pid) for pid in workers) and not pids()


def test_a_killed_parent_takes_its_workers_with_it():
    program = (
        "import asyncio, multiprocessing as mp\nfrom ropd_cli.answers.math_equal import MathGrader\nasync def main():\n"
        "    async with MathGrader() as grader:\n        await grader.same('x+x', '2x')\n"
        "        print(*(w.pid for w in mp.active_children()), flush=True)\n        await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert workers
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    end = time.monotonic() + 20
    while not all(map(gone, workers)) and time.monotonic() < end:
        time.sleep(0.02)
    assert all(map(gone, workers))


async def test_the_memory_of_a_comparison_is_limited():
    async with MathGrader(workers=1, memory_mb=64) as grader:
        assert await grader.same("x+x", "2x") is True
        workers = pids()
        with pytest.raises(MemoryError):
            await asyncio.wrap_future(grader._pool.schedule(bytes, args=(128 << 20,)))
        assert await grader.same("x+x+1", "2x+1") is True and pids() == workers


@pytest.mark.parametrize("when", ["idle", "busy"])
async def test_a_killed_worker_ends_no_run(when):
    async with MathGrader(time_limit_s=60, workers=2) as grader:
        assert await grader.same("x+x", "2x") is True
        first = pids()
        task = None
        if when == "busy":
            task = asyncio.create_task(grader.same(r"9^{9^{9^{9}}}+x", "x+y"))
            while not any(busy(pid) for pid in first):
                await asyncio.sleep(0.01)
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        if task is not None:
            assert await task is None
        assert await asyncio.gather(*[grader.same(f"x+x+{n}", f"2x+{n}") for n in range(5)]) == [True] * 5
        assert not set(first) & set(pids())


def pids():
    return [worker.pid for worker in multiprocessing.active_children()]


def busy(pid):
    """Whether a process has computed for half a second since this was first asked."""
    with open(f"/proc/{pid}/stat") as stat:
        used = sum(map(int, stat.read().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
    return used - _USED.setdefault(pid, used) > 0.5


_USED: dict[int, float] = {}


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "Z"
