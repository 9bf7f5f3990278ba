"""What a template leaves in its run's folder besides files: links, pipes, devices, names that are no text."""

import json
import os

import pytest
from support.command import algo, files
from support.journey import dice_workspace, write_template

KEY = "zq-7f31c9-planted"

LEAVE = """
import os, socket
from pathlib import Path
from algo_research.runs.record import current_run
run, outside = current_run(), Path("outside").resolve()
kept = run.folder/"artifacts"
kept.mkdir(exist_ok=True)
os.symlink(outside/"note.txt", kept/"note.txt")
os.symlink(outside/"model.bin", kept/"model.bin")
os.symlink(outside/"gone", kept/"dangling")
os.symlink(outside, kept/"folder")
os.symlink(outside, run.folder/"more")
os.symlink(Path("secrets").resolve(), run.folder/"keys")
os.link(outside/"note.txt", kept/"hard.txt")
os.link(outside/"model.bin", kept/"hard.bin")
os.link(outside/"plain.txt", kept/"plain.txt")
os.mkfifo(kept/"pipe")
socket.socket(socket.AF_UNIX).bind(os.path.relpath(kept/"socket"))
(kept/"work").mkdir()
(kept/"work"/"deep.txt").write_text(os.environ["ALGO_SECRET_VENUE_KEY"])
(kept/os.environ["ALGO_SECRET_VENUE_KEY"]).mkdir()
(kept/"good.txt").write_text("as it was")
"""


def outside_of(workspace) -> dict[str, bytes]:
    """Files beside the runs, some with a secret, that a run has no business with; and what is in them."""
    (workspace / "secrets").mkdir()
    (workspace / "secrets" / "venue_key").write_text(KEY + "\n")
    (workspace / "outside").mkdir()
    (workspace / "outside" / "note.txt").write_text(f"the key is {KEY}\n")
    (workspace / "outside" / "model.bin").write_bytes(b"\xff\x00" + KEY.encode())
    (workspace / "outside" / "plain.txt").write_text("nothing of note\n")
    return content_of(workspace)


def content_of(workspace) -> dict[str, bytes]:
    found = [*(workspace / "secrets").rglob("*"), *(workspace / "outside").rglob("*")]
    return {str(p): p.read_bytes() for p in sorted(found)}


@pytest.mark.process
@pytest.mark.slow
def test_a_run_harms_nothing_that_it_links_to(tmp_path, monkeypatch):
    workspace = dice_workspace(tmp_path)
    monkeypatch.chdir(workspace)
    before = outside_of(workspace)
    write_template(workspace, "linking", ("parameters", "x: int = 0"), ("step:leave", LEAVE))
    done = algo(workspace, "run", "linking", "--log", code=1, ALGO_SECRET_VENUE_KEY=KEY)
    assert content_of(workspace) == before
    (folder,) = (workspace / "reports" / "linking").iterdir()
    manifest = json.loads((folder / "run.json").read_text())
    removed = manifest["record"]["removed"]
    links = {"artifacts/note.txt", "artifacts/model.bin", "artifacts/dangling", "artifacts/folder", "more", "keys"}
    assert {name for name, why in removed.items() if "a link" in why} == links
    assert "a pipe" in removed["artifacts/pipe"] and "a socket" in removed["artifacts/socket"]
    assert "a secret" in removed["artifacts/**********"] and "a secret" in removed["artifacts/hard.bin"]
    assert manifest["error"]["type"] == "secret in an artifact" and "hard.bin" in manifest["error"]["message"]
    left = {p.relative_to(folder).as_posix() for p in (folder / "artifacts").rglob("*")}
    wanted = {"good.txt", "hard.txt", "plain.txt", "work", "work/deep.txt"}
    assert left == {f"artifacts/{name}" for name in wanted}
    assert all(p.stat().st_nlink == 1 and KEY not in p.read_text() for p in folder.rglob("*.txt"))
    assert "artifacts/folder" in (folder / "log.txt").read_text() and KEY not in done.stdout + done.stderr


SWAP = {
    "its notebook": "file.unlink()\nos.symlink(outside/'note.txt', file)",
    "its record": "(run.folder/'run.json').unlink()\nos.symlink(outside/'note.txt', run.folder/'run.json')",
    "its log": "(run.folder/'log.txt').unlink()\nos.symlink(outside/'note.txt', run.folder/'log.txt')",
    "its record by a folder": "(run.folder/'run.json').unlink()\n(run.folder/'run.json/deep').mkdir(parents=True)",
    "its notebook by a folder": "file.unlink()\n(file/'deep').mkdir(parents=True)",
    "its report": "os.symlink(outside/'note.txt', run.folder/'report.html')",
    "its ledger": "(run.folder/'ledger.db').unlink(missing_ok=True)\n"
    "os.symlink(outside/'note.txt', run.folder/'ledger.db')",
    "its work": "os.rename(run.folder/'work', 'moved')\nos.symlink(outside, run.folder/'work')",
    "itself": "os.rename(run.folder, 'moved')\nos.symlink(outside, run.folder)",
    "its parent": "import shutil\nshutil.copytree(run.folder, 'copy/' + run.folder.name)\n"
    "os.rename(run.folder.parent, 'moved')\nos.symlink(Path('copy').resolve(), run.folder.parent)",
}


BROKEN = ("itself", "its work", "its notebook by a folder")


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("swapped", SWAP)
@pytest.mark.parametrize("end", ["1", "1 / 0"], ids=["well", "with an error"])
def test_nothing_is_written_through_what_a_run_puts_in_the_place_of(tmp_path, swapped, end):
    workspace = dice_workspace(tmp_path)
    outside_of(workspace)
    (workspace / "outside" / "work").mkdir()
    (workspace / "outside" / "work" / "kept.txt").write_text("not the run's")
    before = files(workspace / "outside")
    head = "import os\nfrom pathlib import Path\nfrom algo_research.runs.record import current_run\n"
    swap = head + "run = current_run()\nfile, outside = run.folder/'notebook.ipynb', Path('outside').resolve()\n"
    swap += SWAP[swapped]
    write_template(workspace, "swap", ("parameters", "x: int = 0"), ("step:swap", swap), ("step:end", end))
    done = algo(workspace, "run", "swap", code=None)
    assert files(workspace / "outside") == before
    if swapped == "its parent":
        (copied,) = (workspace / "copy").iterdir()
        assert done.returncode == 2 and "leads" in done.stderr and "report.html" not in files(copied)
        assert json.loads((copied / "run.json").read_text())["status"] == "running"
        return
    (folder,) = (workspace / "reports" / "swap").iterdir()
    assert not folder.is_symlink() and not [p for p in folder.rglob("*") if p.is_symlink()]
    status = json.loads((folder / "run.json").read_text())["status"]
    assert status == ("succeeded" if end == "1" and swapped not in BROKEN else "failed"), done
    assert done.returncode == (0 if status == "succeeded" else 2 if swapped == "itself" else 1), done


@pytest.fixture
def venue_key(monkeypatch):
    from algo_research.core import secrets

    monkeypatch.setattr(secrets, "_seen", set())
    secrets.remember_secret(KEY)


@pytest.mark.usefixtures("venue_key")
class TestFolders:
    """The function alone, where a whole run would show no more."""

    def test_a_folder_that_is_a_link_is_not_entered(self, tmp_path):
        from algo_research.core.errors import DataError
        from algo_research.runs.cleaning import clean_folder

        (tmp_path / "real").mkdir()
        (tmp_path / "real" / "note.txt").write_text(KEY)
        (tmp_path / "run").symlink_to(tmp_path / "real")
        with pytest.raises(DataError, match="is a link"):
            clean_folder(tmp_path / "run")
        assert (tmp_path / "real" / "note.txt").read_text() == KEY

    def test_only_the_top_folder_named_work_is_left_alone(self, tmp_path):
        from algo_research.runs.cleaning import clean_folder

        for place in ("work", "artifacts/work"):
            (tmp_path / place).mkdir(parents=True)
            (tmp_path / place / "note.txt").write_text(KEY)
        (tmp_path / "work" / "link").symlink_to(tmp_path)
        (found,) = clean_folder(tmp_path)
        assert found.name == "work/link" and not found.secret
        assert (tmp_path / "work" / "note.txt").read_text() == KEY
        assert (tmp_path / "artifacts" / "work" / "note.txt").read_text() == "**********"

    def test_a_link_named_work_is_removed(self, tmp_path):
        from algo_research.runs.cleaning import clean_folder

        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "work").symlink_to(tmp_path)
        assert [found.name for found in clean_folder(tmp_path / "run")] == ["work"]

    def test_names_that_are_no_text_and_depth_stop_nothing(self, tmp_path):
        from algo_research.runs.cleaning import clean_folder

        os.mkdir(os.fsencode(tmp_path) + b"/\xff")
        with open(os.fsencode(tmp_path) + b"/\xff/note\xfe.txt", "wb") as file:
            file.write(KEY.encode())
        deep = tmp_path
        for _ in range(1100):  # deeper than Python's stack
            deep = deep / "d"
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            for _ in range(1100):
                os.mkdir("d")
                os.chdir("d")
            with open("note.txt", "w") as file:
                file.write(KEY)
        found = clean_folder(tmp_path)
        assert [entry.name for entry in found] == ["�/note�.txt", "�"]
        assert all("no text" in entry.why for entry in found)
        assert (deep / "note.txt").read_text() == "**********"
        (deep / "note.txt").unlink()
        for folder in (deep, *deep.parents):  # what clears the folder of the tests goes down as deep as Python's stack
            if folder == tmp_path:
                break
            folder.rmdir()

    def test_a_masked_file_keeps_its_rights_and_its_other_name(self, tmp_path):
        from algo_research.runs.cleaning import clean_folder

        (tmp_path / "run").mkdir()
        (tmp_path / "note.txt").write_text(f"{KEY}\r\n")
        (tmp_path / "note.txt").chmod(0o640)
        os.link(tmp_path / "note.txt", tmp_path / "run" / "note.txt")
        assert clean_folder(tmp_path / "run") == []
        assert (tmp_path / "note.txt").read_bytes() == KEY.encode() + b"\r\n"
        made = tmp_path / "run" / "note.txt"
        assert made.read_bytes() == b"**********\r\n" and made.stat().st_mode & 0o777 == 0o640
