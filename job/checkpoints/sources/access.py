"""How a run asks servers for checkpoints."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from job.checkpoints.transport.cooldowns import Cooldowns
from job.checkpoints.transport.deadline import Deadline
from job.checkpoints.transport.retries import DEFAULT_RETRY, RetryPolicy

if TYPE_CHECKING:
    from job.checkpoints.transport.http_client import HttpClient


@dataclass(frozen=True)
class Access:
    """How a run asks servers: which Hub, with which token, how patiently."""

    hf_endpoint: str | None
    """The Hub's address; None: the public Hub."""
    hf_token: str | None = field(repr=False)
    """Sent to the Hub alone."""
    read_timeout: float
    """Seconds without a byte after which a connection is given up."""
    cooldowns: Cooldowns
    deadline: Deadline = field(default_factory=Deadline)
    """Of the model that is being read."""
    retry_policy: RetryPolicy = DEFAULT_RETRY

    @property
    def hub(self) -> str:
        """The Hub's address."""
        from job.checkpoints.sources.hub import PUBLIC_HUB

        return self.hf_endpoint or PUBLIC_HUB

    def client(self, url: str) -> "HttpClient":
        """Asks the server that an address is on."""
        from job.checkpoints.transport.http_client import HttpClient

        return HttpClient(self.read_timeout, self.retry_policy, self.cooldowns.of(url), self.deadline)
