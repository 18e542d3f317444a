"""Random requests by the schema: no server error, and answers as the schema says."""

import pytest

pytest.importorskip("fastapi", reason="needs the extra `studio`")
schemathesis = pytest.importorskip("schemathesis", reason="installed by make test")

from hypothesis import HealthCheck, Phase, settings

from seqgen.serving.app import build_app
from seqgen.serving.problems import Limits
from seqgen.serving.studio import Studio

EXAMPLES = 6  # of each operation


@pytest.fixture(scope="module")
def app(runs, tmp_path_factory):
    limits = Limits(max_tokens=200, max_projects=100_000)
    studio = Studio(tmp_path_factory.mktemp("projects"), runs_folder=runs, limits=limits)
    return build_app(studio)


@pytest.fixture(scope="module")
def api(app):
    return schemathesis.openapi.from_asgi("/openapi.json", app)


schema = schemathesis.pytest.from_fixture("api")


@schema.exclude(path_regex="/events$|soundfont").parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_as_the_schema_says(case):
    case.call_and_validate()
