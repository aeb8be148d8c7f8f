"""Noise schedules, denoisers and samplers; they know no network, data or file."""

from ecgforge.diffusion.samplers import ddim, ddpm, dpmpp_2m

SAMPLERS = {"ddpm": ddpm, "ddim": ddim, "dpmpp": dpmpp_2m}
