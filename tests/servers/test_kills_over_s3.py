"""Runs into a bucket that are killed at each request: what they leave is sound, and the next run completes it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mypy_boto3_s3 import S3Client

from tests.checkpoints import planted, write_checkpoint
from tests.killed_runs import KilledRuns, check_index, check_same, check_whole, killed_runs
from tests.servers.seaweed import SeaweedServer


@pytest.fixture(scope="module")
def runs() -> Iterator[KilledRuns]:
    with killed_runs() as process:
        yield process


def contents(client: S3Client, bucket: str, prefix: str) -> dict[str, bytes]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    return {key.removeprefix(prefix): client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


@pytest.mark.parametrize("scenario", ["first survey", "new commit", "all published"])
def test_a_run_killed_at_any_request_leaves_nothing_torn_and_the_next_completes_it(
    scenario: str, runs: KilledRuns, tmp_path: Path, s3_server: SeaweedServer, s3_bucket: str
) -> None:
    client, model = s3_server.client(), tmp_path / "model"

    def survey(prefix: str, at: int | None = None) -> tuple[int, int]:
        arguments = [str(model), "--output", f"s3://{s3_bucket}/{prefix}", "--scratch", str(tmp_path)]
        return runs.run(arguments, "requests", s3_server.environment(), at=at)

    if scenario != "first survey":
        write_checkpoint(model, planted(40, 8, [[1, 2] if scenario == "all published" else [3, 4]]))
        assert survey("start/")[0] == 0
    start = contents(client, s3_bucket, "start/")
    write_checkpoint(model, planted(40, 8, [[1, 2]]))

    def begin(prefix: str) -> None:
        for key, content in start.items():
            client.put_object(Bucket=s3_bucket, Key=prefix + key, Body=content)

    begin("done/")
    status, steps = survey("done/")
    assert status == 0
    assert steps > 5
    expected = contents(client, s3_bucket, "done/")
    for at in range(1, steps + 1):
        prefix = f"{at}/"
        begin(prefix)
        assert survey(prefix, at)[0] in (-9, 0), at
        check_whole(contents(client, s3_bucket, prefix), start)
        assert survey(prefix)[0] == 0, at
        check_whole(contents(client, s3_bucket, prefix))
        check_index(contents(client, s3_bucket, prefix))
        check_same(contents(client, s3_bucket, prefix), expected)
        assert client.list_multipart_uploads(Bucket=s3_bucket, Prefix=prefix).get("Uploads", []) == []
