"""No secret in any tracked file: detect-secrets over the tree, with the known false alarms named here.

python tools/secret_scan.py [FOLDER]
"""

import subprocess
import sys
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


def scan(files: list[Path]) -> list[str]:
    """Findings as path:line: kind."""
    with transient_settings({"plugins_used": [{"name": name} for name in PLUGINS]}):
        return [f"{path}:{s.line_number}: {s.type}" for path in files for s in scan_file(str(path))]


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
    found = scan(files)
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
