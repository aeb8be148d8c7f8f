"""Networks only; they know no diffusion, data or files.

Generators are called as `network(x, level, condition) -> tensor`, (B, C, L) to (B, C, L); classifiers take a signal.
"""

from ecgforge.models.patch_s4 import PatchS4, PatchS4Config
from ecgforge.models.pulse2pulse import Pulse2Pulse, Pulse2PulseConfig
from ecgforge.models.sssd import SssdConfig, SssdEcg
from ecgforge.models.wavegan import WaveGan, WaveGanConfig
from ecgforge.models.xresnet import XResNet1d, XResNetConfig

NetworkConfig = SssdConfig | PatchS4Config | WaveGanConfig | Pulse2PulseConfig | XResNetConfig

# What predicts noise at a level, what makes a record in one call, what judges records.
DENOISERS = {"sssd": SssdEcg, "patch-s4": PatchS4}
ONE_CALL = {"wavegan": WaveGan, "pulse2pulse": Pulse2Pulse}
CLASSIFIERS = {"xresnet1d": XResNet1d}
NETWORKS = {**DENOISERS, **ONE_CALL, **CLASSIFIERS}
