"""Make a trained model the one that comes with the package: `python docs/ship_default.py RUN/model`.

Its large matrices go to half precision, so that the weights stay far below 16 MB. Afterwards: docs/pictures.py,
benchmarks/default_model.py, and the model card.
"""

import sys
from pathlib import Path

from ecgforge.checkpoints.native import WEIGHTS_FILE, halve_weights, load_model, save_model
from ecgforge.generate import DEFAULT_MODEL


def main() -> None:
    model = load_model(Path(sys.argv[1]))
    shipped = save_model(model.config, halve_weights(model.network.state_dict()), DEFAULT_MODEL)
    for file in DEFAULT_MODEL.glob("*.*"):
        file.chmod(0o644)
    size = (DEFAULT_MODEL / WEIGHTS_FILE).stat().st_size
    print(f"{shipped.name}, {size / 1e6:.1f} MB, SHA-256 {shipped.weights_sha256[:12]}, in {DEFAULT_MODEL}")


if __name__ == "__main__":
    main()
