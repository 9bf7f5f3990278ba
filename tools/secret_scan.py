"""No secret in any tracked file: detect-secrets over the tree, with the known false alarms named here.

python tools/secret_scan.py [FOLDER]
"""

import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from detect_secrets.core.scan import scan_file
from detect_secrets.settings import transient_settings

ROOT = Path(__file__).parent.parent
PLUGINS = [
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "BasicAuthDetector",
    "DiscordBotTokenDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "JwtTokenDetector",
    "MailchimpDetector",
    "NpmDetector",
    "OpenAIDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SendGridDetector",
    "SlackDetector",
    "StripeDetector",
    "TelegramBotTokenDetector",
    "TwilioKeyDetector",
]


INDEX = "_modidx.py"  # nbdev's index of names: made anew from what is scanned, and a third of the time


def scan(path: Path) -> list[str]:
    """Findings of a file as path:line: kind."""
    with transient_settings({"plugins_used": [{"name": name} for name in PLUGINS]}):
        return [f"{path}:{s.line_number}: {s.type}" for s in scan_file(str(path))]


def main(arguments: list[str]) -> int:
    if arguments:
        files = [p for p in sorted(Path(arguments[0]).rglob("*")) if p.is_file()]
    else:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        files = [p for name in filter(None, listed.split("\0")) if (p := ROOT / name).is_file()]
    files = [p for p in files if p.name != INDEX]
    with ProcessPoolExecutor() as pool:
        found = [line for lines in pool.map(scan, files, chunksize=8) for line in lines]
    for line in found:
        print(line)
    print(
        f"secrets: {len(found)} found; take them out, and change them where they were valid"
        if found
        else f"secrets: none in {len(files)} files"
    )
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
