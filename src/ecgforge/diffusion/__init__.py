"""Noise schedules, denoisers and samplers; they know no network, data or file."""

from ecgforge.diffusion.samplers import Sampler, ddim, ddpm, dpmpp_2m, dpmpp_sde, unipc

SAMPLERS: dict[str, Sampler] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "dpmpp": dpmpp_2m,
    "dpmpp-sde": dpmpp_sde,
    "unipc": unipc,
}
