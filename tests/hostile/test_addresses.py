"""Addresses in settings that no server can have: a refusal that names the setting, whichever command asks first."""

import pytest
from support.command import algo

PASSWORD = ":p@ssw0rd-1@"
pytestmark = [pytest.mark.slow, pytest.mark.process]

ADDRESSES = {
    "STORE__URL": ["postgresql://[::1/x", "postgresql://u@h:99999/db", "postgresql://u@h:port/db",
                   f"postgresql://u{PASSWORD}h]/db", "postgresql://", "postgresql:///",
                   "postgresql://u@h/db?schema=a;b", "postgresql://u@h/%zz", "s3://[", "s3://bucket/../../x",
                   "s3:///", "delta://", "ftp://h/x", "delta://a%20b"],
    "STORE__CACHE": ["redis://[::1/0", "redis://h:99999/0", "redis://h:x/0", "redis://h/a/b", "memory://-1MB",
                     "memory://", "rediss://[", f"redis://u{PASSWORD}[h/0"],
    "TRACKING__URL": ["http://[", "postgresql://[", "nonsense", "sqlite:///", "http://h:99999", "file://[x"],
}  # fmt: skip


@pytest.mark.parametrize("name", ADDRESSES)
def test_an_address_that_makes_no_sense_is_refused(tmp_path, name):
    for url in ADDRESSES[name]:
        check_address(tmp_path, name, url)


def check_address(tmp_path, name: str, url: str) -> None:
    for command in (["data", "list"], ["settings"], ["doctor"]):
        done = algo(tmp_path, *command, code=None, **{f"ALGO_{name}": url})
        said = " ".join((done.stdout + done.stderr).split())
        assert "Traceback" not in said and PASSWORD[1:-1] not in said, said
        assert done.returncode in (1, 2, 3) or command != ["doctor"], said
        if done.returncode and command != ["doctor"]:
            assert "Error:" in done.stderr and "unexpected" not in said.lower(), said


@pytest.mark.parametrize(
    "url",
    ["http://[", *(pytest.param(u, marks=pytest.mark.long) for u in ("postgresql://[", "http://h:99999", "file://["))],
)
def test_a_run_that_cannot_be_tracked_there_is_refused_or_says_so(tmp_path, url):
    done = algo(tmp_path, "run", "research", "-p", "dataset=arch/NASDAQ/1d", "-p", "folds=2", code=None,
                ALGO_TRACKING__URL=url)  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr
    assert (done.returncode in (2, 3) and "Error:" in done.stderr) or "succeeded" in done.stdout, done
