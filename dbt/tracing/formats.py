"""Events as text for people, as lines of JSON, and in Chrome's trace format, which Perfetto and chrome://tracing open.

Owns: these forms. Must not know: where events come from.
"""

from __future__ import annotations

import json
from typing import Any

from dbt.tracing.events import Event

_HEX = {"pc", "to_pc", "address", "value", "to", "arguments"}  # what is shown in hexadecimal
_QUIET = {"at"}  # a part of pc


def text(event: Event) -> str:
    """One line: both times, who, what."""
    spent = "" if event.spent is None else f" ({event.spent:,.0f} us)"
    place = f" {event.what['at']}" if event.what.get("at") else ""
    rest = "".join(f" {name}={_shown(name, value)}" + (place if name == "pc" else "")
                   for name, value in event.what.items() if name not in _QUIET)  # fmt: skip
    when = f"{event.instructions:>13,} {event.host / 1e3:12.3f} ms"
    return f"{when}  {event.track:<10} {event.kind}: {event.name}{spent}{rest}"


def _shown(name: str, value: object) -> str:
    if name in _HEX and isinstance(value, int):
        return f"{value:#x}"
    if isinstance(value, list):
        return f"({', '.join(_shown(name, each) for each in value)})"
    return f"{value!r}" if isinstance(value, str) and " " in value else str(value)


def line(event: Event) -> str:
    """One JSON object."""
    fields = event._asdict()
    return json.dumps(fields | fields.pop("what"))


class Chrome:
    """Gathers events; `document` is all of them as one JSON object of the format's "JSON Object Format".

    Times are the host's. Events that take time are complete ("X"), others instant ("i"); each track is a thread of one
    process, and between `guest entered` and `guest left` a slice of it has the guest's name. Numbers of 64 bits are
    text, which JavaScript has no numbers for.
    """

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._tracks: dict[str, int] = {}
        self._guests: dict[str, Event] = {}  # the entry that has no end yet, by track

    def add(self, event: Event) -> None:
        """One more event."""
        what = event.what | {"instructions": event.instructions}
        row = self._row(event.track, event.name, event.kind, event.host, what)
        if event.spent is None:
            row |= {"ph": "i", "s": "t"}
        else:
            row |= {"ph": "X", "dur": round(event.spent, 3)}
        self._rows.append(row)
        if event.name == "guest entered":
            self._guests[event.track] = event
        elif event.name == "guest left" and event.track in self._guests:
            self._guest(self._guests.pop(event.track), event.host)

    def _guest(self, entry: Event, until: float) -> None:
        row = self._row(f"{entry.track}: guest", "guest", "switch", entry.host, {"instructions": entry.instructions})
        self._rows.append(row | {"ph": "X", "dur": round(until - entry.host, 3)})

    def _row(self, track: str, name: str, kind: str, host: float, what: dict[str, Any]) -> dict[str, Any]:
        number = self._tracks.setdefault(track, len(self._tracks) + 1)
        shown = {key: _shown(key, value) if key in _HEX else value for key, value in what.items()}
        return {"name": name, "cat": kind, "ts": round(host, 3), "pid": 1, "tid": number, "args": shown}

    def document(self, title: str, until: float, more: dict[str, Any]) -> str:
        """All of it. `until`: when the run ended; `more`: what there is to say of it."""
        for entry in self._guests.values():
            self._guest(entry, until)
        self._guests.clear()
        names = [{"name": "process_name", "ph": "M", "pid": 1, "tid": 0, "args": {"name": title}}]
        names += [{"name": "thread_name", "ph": "M", "pid": 1, "tid": number, "args": {"name": track}}
                  for track, number in self._tracks.items()]  # fmt: skip
        rows = sorted(self._rows, key=lambda row: float(row["ts"]))
        return json.dumps({"traceEvents": [*names, *rows], "displayTimeUnit": "ms", "otherData": more})
