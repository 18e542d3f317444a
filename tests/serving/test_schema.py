"""Random requests by the schema: no server error, and answers as the schema says."""

import pytest

pytest.importorskip("fastapi", reason="needs the extra `studio`")
pytest.importorskip("schemathesis", reason="installed by make test")

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance  # names are not known

from seqgen.serving.app import build_app
from seqgen.serving.problems import Limits
from seqgen.serving.studio import Studio

EXAMPLES = 5  # of each operation


@pytest.fixture(scope="module")
def schema(runs, tmp_path_factory):
    limits = Limits(max_tokens=100, max_projects=100_000, max_runs=9)
    studio = Studio(tmp_path_factory.mktemp("projects"), runs_folder=runs, limits=limits)
    yield schemathesis.openapi.from_asgi("/openapi.json", build_app(studio))
    studio.end()


@pytest.mark.slow
def test_answers_are_as_the_schema_says(schema):
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 25
    for operation in operations:
        if operation.path == "/api/soundfont":  # it is large
            continue

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case):
            case.call_and_validate(excluded_checks=[positive_data_acceptance])

        ask()
