"""The servers of tests/servers, for containers to talk to."""

from tests.servers.conftest import hub as hub
from tests.servers.conftest import s3_bucket as s3_bucket
from tests.servers.conftest import s3_server as s3_server
