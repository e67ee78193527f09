"""What the page of a job says: its heading, what came of it, and where to go from there."""

from __future__ import annotations

from dataclasses import dataclass

from .jobs import Job


@dataclass(frozen=True)
class Outcome:
    """``title`` and, in grey, ``detail``: what the job is. Once it is done: ``said``, and the ``label`` of a
    way to ``place``.
    """

    title: str
    detail: str = ""
    said: str = ""
    place: str = "/"
    label: str = "To the world"


def outcome(job: Job, world: str) -> Outcome:
    """``world``: its name."""
    asked, found = job.asked, job.found
    number = found.get("version", 0)
    match job.kind:
        case "create":
            return Outcome("Making the world", said="The world is made.")
        case "export":
            size = found.get("bytes", 0) / 1048576
            strength = asked.get("strength", 1)
            return Outcome(
                ", ".join(asked["tokens"]) or world,
                f"as {asked['format']}" + (f", {strength:g} times" if strength != 1 else ""),
                f"Written: {', '.join(found.get('files', []))}",
                f"/jobs/{job.id}/export.zip",
                f"Download ({size:.1f} MiB)",
            )
        case "rename":
            return Outcome(
                f"{asked['token']} to {asked['to']}",
                "",
                f"{asked['token']} is called {asked['to']} now, as version {number}.",
            )
        case "branch":
            return Outcome(
                asked["name"],
                f"from version {asked['version']} of {world}",
                f"{asked['name']} is there, beside this world. A studio of it opens with: l2dm studio "
                f"{asked['name']}",
            )
        case kind:
            said = f"{'Learnt' if kind == 'learn' else 'Taken in'}, as version {number}."
            return Outcome(asked["token"], asked["noun"], said, f"/effect/{number}", "See what it did")
