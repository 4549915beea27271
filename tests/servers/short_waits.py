"""How long tests let the job wait for an S3 server: long enough to be tried again, and no longer."""

from typing import Final

from job.checkpoints.transport.retries import RetryPolicy
from job.s3.retries import S3Retries

QUICK: Final = S3Retries(outage_waits=(0.01,) * 5, refusal_waits=(0.01,) * 5)
"""Six attempts."""
ONCE: Final = S3Retries(outage_waits=(), refusal_waits=())
ONE_ATTEMPT: Final = RetryPolicy(attempts=1, first_wait=0.0)
"""For what reads a checkpoint, in addition."""
