"""A client of the studio: a piece while it is written, and a session that goes on and forks.

python cli.py studio --no-browser
python examples/studio_client.py http://127.0.0.1:8765 RUN
"""

import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

address, run = sys.argv[1:]


def post(path, **body):
    """Send JSON; return the open response."""
    content, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/api{path}", content, headers)
    try:
        return urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        raise SystemExit(json.load(error)["error"]) from None


def events(response):
    """Yield the name and the value of each server-sent event."""
    name = ""
    for line in response:
        kind, _, value = line.decode().rstrip("\n").partition(": ")
        if kind == "event":
            name = value
        elif kind == "data":
            yield name, json.loads(value)


for name, value in events(post("/generate", run=run, bars=8, seed=1, stream=True)):
    if name == "music":
        print(f"{len(value['bars']) - 1} bars, {value['from_note'] + len(value['notes'])} notes")
    elif name == "done":
        Path("piece.mid").write_bytes(base64.b64decode(value["midi_base64"]))
        print(f"piece.mid: {value['log_likelihood_bits']:.0f} bits")

session = json.load(post("/sessions", run=run, seed=1))["id"]
state = json.load(post(f"/sessions/{session}/continue", bars=4))
print(f"{state['n_bars']} bars" + (", where the model has ended" if state["ended"] else ""))
if not state["ended"]:
    fork = json.load(post(f"/sessions/{session}/fork"))["id"]
    for one in (session, fork):
        print(len(json.load(post(f"/sessions/{one}/continue", bars=4))["piece"]["notes"]), "notes")
