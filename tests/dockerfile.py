"""Reads a Dockerfile, and writes its commands as a script that runs without Docker, in a mount namespace of its own.

It knows what ours uses: ARG, FROM ... AS, COPY [--from], RUN, ENV, WORKDIR, USER, HEALTHCHECK, and refuses the rest.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

SAID_ONLY = {"VOLUME", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"}


@dataclass
class Stage:
    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, verb: str) -> str:
        return next((rest for said, rest in reversed(self.steps) if said == verb), "")

    @property
    def user(self) -> str:
        return self.last("USER")

    @property
    def health(self) -> list[str]:
        return list(json.loads(self.last("HEALTHCHECK").partition("CMD ")[2]))


def stages(file: Path, **arguments: str) -> list[Stage]:
    """Its stages, with the build arguments put in."""
    text = re.sub(r"^\s*#.*\n", "", file.read_text(), flags=re.M)
    known: dict[str, str] = {}
    found: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        verb, _, rest = line.strip().partition(" ")
        for name, value in known.items():
            rest = rest.replace(f"${{{name}}}", value)
        if verb == "ARG":
            name, _, default = rest.partition("=")
            known[name] = arguments.get(name, default)
        elif verb == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(name, base))
        elif verb in {"COPY", "RUN", "ENV", "WORKDIR", "USER", "HEALTHCHECK"} | SAID_ONLY:
            found[-1].steps.append((verb, rest))
        elif verb:
            raise ValueError(f"{verb}: not known to the tests' reader of Dockerfiles")
    return found


def script(made: list[Stage], *, context: Path, python: str, scratch: Path) -> str:
    """A script for `unshare --mount sh -eu`: each path that the Dockerfile makes is an empty folder there first.

    `python` is the prefix of the interpreter that stands for the base image's, `scratch` a folder for /data and /etc.
    """
    lines = ["mount --make-rprivate /", "mkdir -p /src /wheels /opt /data"]
    lines += [f"mount -t tmpfs tmpfs {place}" for place in ("/src", "/wheels", "/opt")]
    # the last one must outlive the test's look into it, and users are added to a copy of /etc
    lines += [
        f"mkdir -p {scratch}/data {scratch}/etc",
        f"mount --bind {scratch}/data /data",
        f"cp -a /etc/. {scratch}/etc",
    ]
    # an interpreter in somebody's home could not be run by another user
    lines += [
        f"mkdir /opt/python && mount --bind {python} /opt/python",
        "export PATH=/opt/python/bin:$PATH LD_LIBRARY_PATH=/opt/python/lib",
    ]
    lines += [f"mount --bind {scratch}/etc /etc", "umask 022"]
    for stage in made:
        lines += [line for verb, rest in stage.steps for line in _step(verb, rest, context)]
    image = made[-1]
    become = f"setpriv --reuid {image.user} --regid {image.user} --clear-groups --no-new-privs"
    lines += [
        f"cp {scratch}/overread.toml /data/overread.toml && chown -R {image.user} /data && chmod 755 {scratch}",
        "mount -o remount,ro /opt && mount -t tmpfs -o mode=1777 tmpfs /tmp",
        f'as() {{ {become} "$@"; }}',
        "as overread --version",
        "as sh -c 'touch /opt/probe' 2>/dev/null && echo WROTE THE ROOT",
        # not by the function: what is killed must be the node, not a shell that waits for it
        f"{become} overread serve & node=$!",
        f"for _ in $(seq 120); do sleep 0.5; as {shlex.join(image.health)} && echo healthy && break; done",
        "kill $node; wait $node",
    ]
    return "\n".join(lines) + "\n"


def _step(verb: str, rest: str, context: Path) -> list[str]:
    if verb == "WORKDIR":
        return [f"mkdir -p {rest} && cd {rest}"]
    if verb == "RUN":
        return [rest.replace("mkdir /data", "mkdir -p /data")]
    if verb == "ENV":
        return [f"export {rest}"]
    if verb == "COPY":
        *sources, into = rest.split()
        if sources[0].startswith("--from="):
            # one file system for all stages here: what the first left is there
            return []
        return [f"cp -r {context / source} {into}" for source in sources]
    return []
