"""What the keys for S3 must allow is said alike by refusals and by the role of the Kubernetes Job."""

import re
from pathlib import Path

from job.s3.refusals import WRITING

ROLE = Path(__file__).parents[2] / "k8s" / "overlays" / "cloud" / "identity.yaml"


def test_the_role_of_the_job_has_the_permissions_that_a_refusal_names() -> None:
    permissions = re.compile(r"s3:[A-Z]\w+")
    assert set(permissions.findall(ROLE.read_text())) == set(permissions.findall(WRITING.permissions))
