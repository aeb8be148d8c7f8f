"""Networks only: `network(x, level, condition) -> tensor`; they know no diffusion, data or files."""

from ecgforge.models.sssd import SssdEcg

NETWORKS = {"sssd": SssdEcg}
