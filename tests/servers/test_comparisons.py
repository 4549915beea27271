"""Comparing surveys that lie in a bucket."""

import json
from pathlib import Path

import pytest

from entrypoint import main
from tests.checkpoints import planted, write_checkpoint
from tests.servers.seaweed import SeaweedServer


def test_a_bucket_and_a_folder_give_the_same_comparison(
    s3_server: SeaweedServer, s3_bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = f"s3://{s3_bucket}/surveys", str(tmp_path / "out")
    for groups in ([[1, 2, 3], [10, 11]], [[1, 2, 3, 10, 11], [20, 21]]):
        checkpoint = write_checkpoint(tmp_path / "model", planted(5000, 2048, groups), n_tokens=4990)
        for output in outputs:
            assert main([str(checkpoint), "--output", output]) == 0
    printed = capsys.readouterr().out
    compared = []
    for output in outputs:
        assert main(["compare", "local/model", "--output", output, "--format", "json"]) == 1
        difference = json.loads(capsys.readouterr().out)
        times = [difference[side].pop("published_at") for side in ("a", "b")]
        assert times == sorted(times)
        compared.append(difference)
    assert compared[0] == compared[1]
    # W has 20 MB, so it is read in several ranges.
    assert (compared[0]["w"]["same_rows"], compared[0]["w"]["compared_rows"]) == (5000 - 3, 5000)
    assert compared[0]["holes"]["fates"]["merged"] == 1
    key = f"local/model/{compared[0]['b']['commit']}/changes.html"
    assert f"what changed: {outputs[0]}/{key}" in printed
    page = s3_server.client().get_object(Bucket=s3_bucket, Key=f"surveys/{key}")["Body"].read()
    assert b"Changed: W and the black holes" in page
    assert main(["compare", "local/none", "--output", outputs[0]]) == 78
