"""What a backup leaves behind of the place that it comes from."""

import json

from pydantic import SecretStr

from fer_pipeline.operations.portable import OF_THIS_PLACE, Tokens, portable_settings
from fer_pipeline.settings import Settings


def test_every_secret_and_every_address_is_left_out_of_settings() -> None:
    for name, field in Settings.model_fields.items():
        if "SecretStr" in str(field.annotation) or name.endswith(("_url", "_uri", "_files")):
            assert name in OF_THIS_PLACE, name
    assert SecretStr.__name__ in str(Settings.model_fields["alert_url"].annotation)
    kept, left_out = portable_settings(
        'seed = 3\nserve_token = "x"\nserve_tokn = "x"\n[stream_classes]\na = ["b"]\n'
    )
    assert left_out == ["serve_token", "serve_tokn"]
    assert "serve_to" not in kept
    assert "stream_classes" in kept


def test_places_are_put_in_for_their_tokens_again() -> None:
    packed = Tokens({"/home/ann/fer": "${FER_HOME}", "/home/ann/fer/data": "${FER_ROOT}"})
    text = json.dumps({"root": "/home/ann/fer/data", "report": "/home/ann/fer/x.html"})
    assert packed.packed(text) == '{"root": "${FER_ROOT}", "report": "${FER_HOME}/x.html"}'
    assert packed.unpacked(packed.packed(text)) == text
    assert Tokens({}).unpacked("${FER_ROOT}/x") == "${FER_ROOT}/x"


def test_place_is_meant_only_as_a_whole_folder() -> None:
    packed = Tokens({"/data": "${FER_ROOT}", "mlflow-artifacts:": "${FER_ARTIFACTS}"}).packed
    for text in ("model/data/x", "/data-2", "/database", "/data.old", "/srv/data", "s3://data/x"):
        assert packed(text) == text
    assert packed('"/data/x", file:///data, \\n/data.') == (
        '"${FER_ROOT}/x", file://${FER_ROOT}, \\n${FER_ROOT}.'
    )
    assert packed("artifact_path: mlflow-artifacts:/1") == "artifact_path: ${FER_ARTIFACTS}/1"
