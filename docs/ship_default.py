"""Make a trained model the one that comes with the package: `python docs/ship_default.py RUN [--last]`.

RUN/model holds averaged weights. With `--last` the last ones of RUN/checkpoint.pt are taken instead: after a short
training whose rate fell to zero they are better than an average that still remembers its middle. Large matrices go to
half precision, so that the weights stay far below 16 MB. Afterwards: docs/pictures.py, benchmarks/default_model.py,
and the model card.
"""

import sys
from pathlib import Path

import torch

from ecgforge.checkpoints.native import WEIGHTS_FILE, halve_weights, load_model, save_model
from ecgforge.generate import DEFAULT_MODEL


def main() -> None:
    run = Path(sys.argv[1])
    model = load_model(run / "model")
    weights = model.network.state_dict()
    if "--last" in sys.argv[2:]:
        live = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)["learner"]["network"]
        weights = {name: live[name] for name in weights}
    shipped = save_model(model.config, halve_weights(weights), DEFAULT_MODEL)
    for file in DEFAULT_MODEL.glob("*.*"):
        file.chmod(0o644)
    size = (DEFAULT_MODEL / WEIGHTS_FILE).stat().st_size
    print(f"{shipped.name}, {size / 1e6:.1f} MB, SHA-256 {shipped.weights_sha256[:12]}, in {DEFAULT_MODEL}")


if __name__ == "__main__":
    main()
