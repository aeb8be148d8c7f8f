"""Make the pictures of the README and of the model card: `python docs/pictures.py STORE`.

STORE is PTB-XL as `ecgforge data build ptbxl` leaves it; its test fold 9 gives the real records shown beside the
synthetic ones. The synthetic records are the first of seed 0, not chosen.
"""

import sys
from pathlib import Path

from ecgforge.data.store import EcgStore
from ecgforge.ecg_paper import draw_sheet, save_ecg, save_figure
from ecgforge.generate import Generator
from ecgforge.labels import parse_statements
from ecgforge.record import EcgRecord

FOLDER = Path(__file__).parent / "pictures"
STATEMENTS = ("NORM,SR", "AFIB", "CLBBB,SR", "IMI,SR,ABQRS", "LVH,SR", "PACE")
LEADS = ("I", "II", "V1", "V5")


def first_real(store: EcgStore, text: str) -> EcgRecord:
    """The first record of fold 9 that has at least these statements."""
    wanted = parse_statements(text)
    for row in store.rows(folds=[9]):
        record = store.record(int(row))
        if wanted.keys() <= record.statements.keys():
            return record
    raise SystemExit(f"fold 9 has no record with {text}")


def main() -> None:
    store = EcgStore.open(sys.argv[1])
    synthetic = Generator.load().sample(STATEMENTS, seed=0)
    save_ecg(synthetic[0], FOLDER / "synthetic_norm.png", dpi=110)
    records, titles = [], []
    for text, made in zip(STATEMENTS, synthetic, strict=True):
        real = first_real(store, text)
        records += [real, made]
        titles += [
            f"real: PTB-XL ecg_id {real.record_id}: {text}",
            f"synthetic: seed 0, record {made.provenance.index}: {text}",
        ]
    save_figure(draw_sheet(records, columns=2, leads=LEADS, titles=titles), FOLDER / "real_and_synthetic.png", dpi=80)


if __name__ == "__main__":
    main()
