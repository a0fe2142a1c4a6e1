"""What OpenAPI says of the service holds, whatever is sent."""

from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, seed, settings
from schemathesis import GenerationMode

from fer_pipeline.core.recogniser import Recogniser
from fer_pipeline.service.app import create_app
from fer_pipeline_tests.service.running import Client

EXAMPLES = 60
OPERATIONS = ("POST /recognise", "GET /model", "GET /health", "GET /metrics")
VIDEO = "POST /video"
"""Only a video is answered with 200, and none is made up here."""
REFUSALS = {"400", "408", "413", "415", "422", "503"}

# That text is base64, and its bytes a picture, is more than a schema can say.
_UNTOLD = ("positive_data_acceptance",)


@pytest.fixture(scope="module")
def schema(recogniser: Recogniser) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(recogniser))


@pytest.mark.parametrize(
    ("label", "mode"),
    [
        *((label, GenerationMode.POSITIVE) for label in OPERATIONS),
        ("POST /recognise", GenerationMode.NEGATIVE),
        (VIDEO, GenerationMode.NEGATIVE),
    ],
)
def test_every_answer_is_described_and_none_is_an_error_of_the_server(
    schema: schemathesis.BaseSchema, label: str, mode: GenerationMode
) -> None:
    method, path = label.split()
    untold = [schemathesis.checks.CHECKS.get_one(name) for name in _UNTOLD]
    seen: Counter[int] = Counter()

    @seed(5)
    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        # An empty list is no field of a form: it can't be told from one that was left out.
        assume(not (isinstance(case.body, dict) and [] in case.body.values()))
        answer = case.call()
        seen[answer.status_code] += 1
        # A check of each kind: status, content type, headers and body as described, no 5xx.
        case.validate_response(answer, excluded_checks=untold)

    ask()
    assert all(status < 500 for status in seen)
    if mode is GenerationMode.POSITIVE:
        assert seen[200]
    else:
        assert any(status >= 400 for status in seen)


def test_every_refusal_and_every_kind_of_body_is_described(client: Client) -> None:
    described = client.get("/openapi.json").json
    assert set(described["paths"]) == {label.split()[1] for label in (*OPERATIONS, VIDEO)}
    asked = described["paths"]["/recognise"]["post"]
    assert set(asked["responses"]) == {"200", *REFUSALS}
    problem = {"$ref": "#/components/schemas/Problem"}
    for status in REFUSALS:
        assert asked["responses"][status]["content"]["application/json"]["schema"] == problem
    assert set(asked["requestBody"]["content"]) == {
        *("image/*", "application/octet-stream", "multipart/form-data", "application/json")
    }
    assert "HTTPValidationError" not in described["components"]["schemas"]
