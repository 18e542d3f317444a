"""What tests of the server do again and again."""

import json
import time


def begun(client, run="band", **facts):
    """Begin a project; return its address."""
    response = client.post("/api/projects", json={"run": run, **facts})
    assert response.status_code == 201, response.text
    return f"/api/projects/{response.json()['id']}"


def finished(client, project):
    """Wait until nothing is written any more; return the versions by id."""
    for _ in range(3000):
        versions = client.get(project).json()["versions"]
        if all(version["status"] != "writing" for version in versions):
            return {version["id"]: version for version in versions}
        time.sleep(0.01)
    raise AssertionError("it is never done")


def written(client, project, **request):
    """Let versions be written; return them whole when they are."""
    response = client.post(f"{project}/versions", json={"seed": 1, "bars": 3, **request})
    assert response.status_code == 202, response.text
    versions = finished(client, project)
    for asked in response.json():
        assert versions[asked["id"]]["status"] == "done", versions[asked["id"]]
    return [client.get(f"{project}/versions/{v['id']}").json() for v in response.json()]


def events_of(text):
    """The events of a stream as pairs of name and value."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def music_of(piece):
    """What is heard of a piece, without what is said of its notes."""
    return [
        (n["track"], n["pitch"], n["start"], n["length"], n["velocity"]) for n in piece["notes"]
    ]
