"""What a release is made of, for others to check: SBOM, audit of known flaws, provenance.

python deploy/image/supply.py sbom LOCK OUT
python deploy/image/supply.py audit LOCK
python deploy/image/supply.py provenance OUT FILE...
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^ ;\\]+)", re.MULTILINE)
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def pins(lock: str) -> list[tuple[str, str, list[str]]]:
    """Name, version and hashes of every package of a lock, on whatever machine it is for."""
    starts = list(PIN.finditer(lock))
    ends = [match.start() for match in starts[1:]] + [len(lock)]
    return [
        (match[1], match[2], HASH.findall(lock, match.start(), end))
        for match, end in zip(starts, ends, strict=True)
    ]


def sbom(lock: Path, out: Path) -> None:
    """A CycloneDX bill of materials of all packages of a lock."""
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [tool("cyclonedx-py"), "requirements", "--output-reproducible"]
    subprocess.run([*command, "--output-format", "JSON", "-o", str(out), str(lock)], check=True)
    listed = {(c["name"], c["version"]) for c in json.loads(out.read_text())["components"]}
    if missing := {(name, version) for name, version, _ in pins(lock.read_text())} - listed:
        raise SystemExit(f"error: the SBOM lacks {sorted(missing)[0]} of {lock}")
    print(f"{out}: {len(listed)} packages")


def audit(lock: Path) -> None:
    """Ask for known flaws of every package of a lock; one that could not be asked for fails."""
    wanted = [(name, version) for name, version, _ in pins(lock.read_text())]
    found: dict[tuple[str, str], dict] = {}
    said = ""
    with tempfile.TemporaryDirectory() as folder:
        for path in rounds(lock.read_text(), Path(folder)):
            command = [tool("pip-audit"), "--strict", "--disable-pip", "--require-hashes"]
            done = subprocess.run(
                [*command, "--progress-spinner", "off", "-f", "json", "-r", str(path)],
                capture_output=True,
                text=True,
            )
            said += done.stderr if done.returncode else ""
            for each in json.loads(done.stdout or "{}").get("dependencies", []):
                found[each["name"], each.get("version", "")] = each
    bad = {key: each for key, each in found.items() if each.get("vulns")}
    for (name, version), each in bad.items():
        print(f"{name} {version}: {', '.join(flaw['id'] for flaw in each['vulns'])}")
    skipped = [key for key in wanted if key not in found or "skip_reason" in found[key]]
    if skipped:
        last = (said.strip().splitlines() or ["no reason was given"])[-1]
        raise SystemExit(
            f"error: {len(skipped)} of {len(wanted)} packages were not audited, such as "
            f"{' '.join(skipped[0])}: this is no pass ({last})"
        )
    if bad:
        raise SystemExit(f"error: {len(bad)} of {len(wanted)} packages have known flaws")
    print(f"{lock}: {len(wanted)} packages audited, no known flaw")


def rounds(lock: str, folder: Path) -> Iterator[Path]:
    """Lists without markers, so that none is passed over here; each has a package once."""
    seen: Counter[str] = Counter()
    lists: dict[int, list[str]] = {}
    for name, version, hashes in pins(lock):
        lists.setdefault(seen[name], []).append(f"{name}=={version} {' '.join(hashes)}\n")
        seen[name] += 1
    for number, lines in lists.items():
        path = folder / f"{number}.txt"
        path.write_text("".join(lines))
        yield path


def provenance(out: Path, files: list[Path], when: datetime) -> None:
    """An in-toto statement with SLSA's predicate: these bytes, from this commit, built by whom."""
    if git("status", "--porcelain", "--untracked-files=no"):
        raise SystemExit(
            "error: the tree is not as committed: provenance would name a wrong commit"
        )
    commit = git("rev-parse", "HEAD")
    server = os.environ.get("GITHUB_SERVER_URL", "")
    repository = f"{server}/{os.environ['GITHUB_REPOSITORY']}" if server else "local"
    run = os.environ.get("GITHUB_RUN_ID", "")
    locks = ("requirements.lock", "deploy/image/serving.lock")
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": path.name, "digest": {"sha256": sha256(path)}} for path in files],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "evergreen/image/v1",
                "externalParameters": {"files": [path.name for path in files]},
                "resolvedDependencies": [
                    {"uri": f"git+{repository}", "digest": {"gitCommit": commit}},
                    *({"uri": n, "digest": {"sha256": sha256(ROOT / n)}} for n in locks),
                ],
            },
            "runDetails": {
                "builder": {"id": f"{repository}/actions/runs/{run}" if run else "local"},
                "metadata": {"finishedOn": when.isoformat(timespec="seconds")},
            },
        },
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(statement, indent=2) + "\n")
    print(f"{out}: {len(files)} files of commit {commit[:12]}")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def tool(name: str) -> str:
    """A program of this environment."""
    return str(Path(sys.executable).parent / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words = parser.add_subparsers(dest="word", required=True)
    for word in ("sbom", "audit"):
        words.add_parser(word).add_argument("lock", type=Path)
    words.choices["sbom"].add_argument("out", type=Path)
    words.add_parser("provenance").add_argument("out", type=Path)
    words.choices["provenance"].add_argument("files", type=Path, nargs="+")
    given = parser.parse_args()
    if given.word == "sbom":
        sbom(given.lock, given.out)
    elif given.word == "audit":
        audit(given.lock)
    else:
        provenance(given.out, given.files, datetime.now(UTC))


if __name__ == "__main__":
    main()
