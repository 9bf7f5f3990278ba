"""What a run prints arrives: every line, once, in order, in the notebook and in the log, however fast it comes."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.command import algo
from support.journey import write_template

from algo_research.runs.engine import RunClient

pytestmark = [pytest.mark.slow, pytest.mark.process]

CHILD = "import sys\\nfor i in range({n}): print(f'line {{i}}')"
WAYS = {
    "print": "for i in range(n): print(f'line {i}')",
    "flushed": "for i in range(n): print(f'line {i}', flush=True)",
    "logging": "import logging, sys\n"
    "logging.basicConfig(format='%(message)s', level=20, stream=sys.stdout, force=True)\n"
    "for i in range(n): logging.info('line %d', i)",
    "descriptor": "import os\nfor i in range(n): os.write(1, b'line %d\\n' % i)",
    "buffer": "import sys\nfor i in range(n): sys.stdout.buffer.write(b'line %d\\n' % i)\nsys.stdout.buffer.flush()",
    "binary": "import os\nfor i in range(n): os.write(1, b'line %d \\xff\\xfe\\xe2\\x82\\xac\\n' % i)",
    "child": "import subprocess, sys\nsubprocess.run([sys.executable, '-c', "
    "f'for i in range({n}): print(f\"line {{i}}\")'], check=True)",
    "pool": "import multiprocessing\ndef say(i): print(f'line {i}')\n"
    "with multiprocessing.get_context('fork').Pool(1) as pool: pool.map(say, range(n))",
    "thread": "import threading\ndef say():\n    for i in range(n): print(f'line {i}')\n"
    "t = threading.Thread(target=say); t.start(); t.join()",
    "after its cell": "import threading\ndef say():\n    for i in range(n): print(f'line {i}')\n"
    "t = threading.Thread(target=say); t.start()",
    "carriage return": "for i in range(n): print(f'working\\rline {i}')",
    "stderr": "import sys\nfor i in range(n): print(f'line {i}', file=sys.stderr)",
}


def printing(workspace, name: str, way: str, n: int) -> None:
    joined = [("", "t.join()")] if way == "after its cell" else []
    write_template(workspace, name, ("parameters", f"n: int = {n}"), ("step:print", WAYS[way]), *joined)


def said(run) -> tuple[list[int], list[int]]:
    """The lines of the notebook, and of the log."""
    cells = json.loads((run / "notebook.ipynb").read_text())["cells"]
    shown = "".join("".join(o["text"]) for c in cells for o in c.get("outputs", []) if o["output_type"] == "stream")
    logged = (run / "log.txt").read_text()
    return [[int(i) for i in re.findall(r"\bline (\d+)", text)] for text in (shown, logged)]


QUICK = ("print", "descriptor", "binary", "child", "pool", "after its cell", "carriage return")


def check_lines(run, n: int) -> None:
    for lines in said(run):
        assert lines == list(range(n)), (len(lines), len(set(lines)))


def test_every_line_arrives_once_and_in_order(tmp_path):
    for number, way in enumerate(QUICK):
        printing(tmp_path, f"talk{number}", way, 30_000)
        assert "succeeded" in algo(tmp_path, "run", f"talk{number}", code=None).stdout, way
        (run,) = tmp_path.glob(f"reports/talk{number}/*")
        check_lines(run, 30_000)


@pytest.mark.long
def test_a_hundred_runs_two_at_once_keep_every_line(tmp_path):
    for number, way in enumerate(WAYS):
        printing(tmp_path, f"talk{number}", way, 30_000)

    def run(number: int) -> str:
        return algo(tmp_path, "run", f"talk{number % len(WAYS)}", "--force", apart=True, code=None).stdout

    with ThreadPoolExecutor(2) as pool:
        assert all("succeeded" in said for said in pool.map(run, range(100)))
    runs = list(tmp_path.glob("reports/*/*"))
    assert len(runs) == 100
    for made in runs:
        check_lines(made, 30_000)


def flood(workspace, megabytes: int) -> None:
    write_template(
        workspace,
        "flood",
        ("parameters", f"n: int = {megabytes}"),
        ("step:print", "def block(i): return ''.join(f'line {i + j}'.ljust(99) + '\\n' for j in range(10_000))\n"
                       "for i in range(n): print(block(10_000 * i), end='')"),
        ("step:show", "from IPython.display import HTML, display\nfor i in range(n): display(HTML('x' * 100_000))"),
        ("step:after", "print('afterwards')"),
    )  # fmt: skip


@pytest.mark.parametrize("megabytes", [300, pytest.param(1000, marks=pytest.mark.long)])
def test_what_is_too_much_is_cut_and_said_wherever_the_output_is_shown(tmp_path, megabytes):
    flood(tmp_path, megabytes)
    done = algo(tmp_path, "run", "flood", "--set", "runs.output=2")
    (run,) = tmp_path.glob("reports/flood/*")
    shown, logged = said(run)
    assert shown == logged == list(range(len(shown))) and 1.9e6 < 100 * len(shown) <= 2e6
    lines = 10_000 * megabytes - len(shown) + megabytes + 1
    cut = json.loads((run / "run.json").read_text())["record"]["output_cut"]
    left = re.search(rf"([\d,.]+) MB of output, {lines:,} lines or outputs", cut)
    assert left and abs(float(left[1].replace(",", "")) - (1.1 * megabytes - 2)) < 0.2, cut
    for text in (done.stdout, algo(tmp_path, "show", "last").stdout, (run / "log.txt").read_text(),
                 (run / "report.html").read_text(), (run / "notebook.ipynb").read_text()):  # fmt: skip
        assert left[0] in " ".join(text.split()), text[-3000:]
    peak = json.loads((run / "run.json").read_text())["record"]["peak_memory"]
    assert peak < 260 * 2**20  # the kernel's: 55 MB before anything is printed, and a thousand messages of 0.1 MB


def test_a_secret_in_pieces_is_masked_however_it_is_printed(tmp_path, monkeypatch):
    write_template(
        tmp_path,
        "secret",
        ("parameters", "pause: float = 0.3"),
        ("step:a", "import os, sys, time\nfor half in ('t0p-s3cr', 'et-value'):\n"
                   "    print(half, end='', flush=True)\n    time.sleep(pause)"),
        ("step:b", "for half in ('\\nt0p-s3cr', 'et-value\\n'):\n"
                   "    os.write(1, half.encode())\n    time.sleep(pause)"),
        ("step:c", "print('x' * 40_000 + 't0p-s3cret' + '-value' + 'x' * 40_000)"),
    )  # fmt: skip
    algo(tmp_path, "run", "secret", ALGO_SECRET_KEY="t0p-s3cret-value")
    (run,) = tmp_path.glob("reports/secret/*")
    for name in ("notebook.ipynb", "log.txt", "report.html"):
        text = (run / name).read_text()
        assert "t0p-s3cret-value" not in text and text.count("**********") >= 3, name


def test_a_temporary_folder_with_a_long_name(tmp_path):
    """A socket's path may have 107 bytes."""
    long = tmp_path / ("a" * 121)
    long.mkdir()
    write_template(tmp_path, "one", ("parameters", "n: int = 1"), ("step:a", "print(n)"))
    assert "succeeded" in algo(tmp_path, "run", "one", apart=True, TMPDIR=str(long)).stdout


SAID = {
    "half a character": ("print('before')\nprint('x \\ud800 y')\nprint('after')", "before\nx \\ud800 y\nafter\n"),
    "a buffer and then text": (
        "import sys\nfor i in range(50):\n    sys.stdout.buffer.write(b'%d\\n' % (2 * i))\n    print(2 * i + 1)",
        "".join(f"{i}\n" for i in range(100)),
    ),
    "both streams": (
        "import sys\nfor i in range(50):\n    print(2 * i)\n    print(2 * i + 1, file=sys.stderr)",
        "".join(f"{i}\n" for i in range(100)),
    ),
    "the descriptor and then text": (
        "import os\nfor i in range(50):\n    os.write(1, b'%d\\n' % (2 * i))\n    print(2 * i + 1)",
        "".join(f"{i}\n" for i in range(100)),
    ),
}


def test_what_is_printed_by_turns_stays_in_order(tmp_path):
    cells = [(f"step:{number}", source) for number, (source, _) in enumerate(SAID.values())]
    write_template(tmp_path, "turns", ("parameters", "n: int = 1"), *cells)
    algo(tmp_path, "run", "turns")
    (run,) = tmp_path.glob("reports/turns/*")
    made = json.loads((run / "notebook.ipynb").read_text())["cells"]
    shown = ["".join("".join(o["text"]) for o in cell["outputs"]) for cell in made if cell.get("outputs")]
    assert shown == [text for _, text in SAID.values()]


def test_why_a_run_failed_is_kept_however_much_was_printed(tmp_path):
    source = "for i in range(30_000): print('x' * 99)\nraise ValueError('the reason' + 'y' * 300_000)"
    write_template(tmp_path, "much", ("parameters", "n: int = 1"), ("step:a", source))
    algo(tmp_path, "run", "much", "--set", "runs.output=1", code=1)
    (run,) = tmp_path.glob("reports/much/*")
    (cell,) = [c for c in json.loads((run / "notebook.ipynb").read_text())["cells"] if c.get("outputs")]
    (error,) = [o for o in cell["outputs"] if o["output_type"] == "error"]
    assert error["evalue"].startswith("the reasony") and len(json.dumps(error)) < 50_000


def test_a_run_whose_thread_goes_on_printing_ends(tmp_path, monkeypatch):
    """Also where whoever reads is slower than it prints."""
    original = RunClient.process_message

    def slow(*arguments):
        time.sleep(0.01)  # a real sleep: it stands for the work of masking much
        return original(*arguments)

    monkeypatch.setattr(RunClient, "process_message", slow)
    endless = "import threading\ndef say():\n    while True: print('x' * 4000)\n"
    start = "threading.Thread(target=say, daemon=True).start()"
    write_template(tmp_path, "endless", ("parameters", "n: int = 1"), ("step:a", endless + start))
    done = algo(tmp_path, "run", "endless", "--timeout", "100", "--set", "runs.output=1")
    assert "succeeded" in done.stdout
