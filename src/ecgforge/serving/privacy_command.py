"""`ecgforge privacy`: does a generator give its training records away?"""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ecgforge.errors import ConfigError
from ecgforge.serving.data_commands import parse_folds
from ecgforge.serving.options import require_writable
from ecgforge.serving.progress import progress_bar


def privacy(
    real: Annotated[Path, typer.Option(help="Store of the real records, with the folds the generator learnt from.")],
    synthetic: Annotated[Path, typer.Option(help="Store of what it generated, see `ecgforge copy`.")],
    out: Annotated[Path, typer.Option(help="Folder for report.md, results.json and nearest.png.")],
    model: Annotated[
        Path | None,
        typer.Option(
            help="The generator: a folder, or a name out of `ecgforge models`. Without it only samples are judged."
        ),
    ] = None,
    classifier: Annotated[
        Path | None,
        typer.Option(help="Model folder of a classifier (`ecgforge train xresnet1d50`): compare its features too."),
    ] = None,
    train_folds: Annotated[str, typer.Option(help="Folds the generator was trained on.")] = "1-8",
    test_folds: Annotated[str, typer.Option(help="Folds of other patients that it has not seen.")] = "9",
    records: Annotated[
        int, typer.Option(min=2, help="Examine at most so many synthetic, training and held-out records each.")
    ] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Decides which records are examined, and the noise.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
) -> None:
    """Audit privacy: was a training record copied, and can one tell who was in the training?

    Nearest training record: a synthetic record may come as near to a training record as a held-out real one does, not
    nearer. About 1 % of an honest generator's records are `too near`, more where few records are held out: the
    report says what chance gives.

    Attacks: one guesses who was in training from the released records, one from the model. AUROC 0.5, and 1 % of the
    members found at 1 % false alarms, is chance. Read both beside the rows with real records and with the plain
    filter: they show what differs between the folds by itself.

    Copy training and test folds alike, or an attack on the samples finds whom the twins were made for. A score
    above both chance and its row beside is evidence of a leak; finding nothing proves nothing, as better attacks may
    exist. The picture `nearest.png` shows real records: keep it as you keep the data set.

    Example: `ecgforge privacy --real ptbxl100 --synthetic twin100 --model default --classifier runs/judge/model --out
    privacy`
    """
    from ecgforge.checkpoints.locate import locate_model
    from ecgforge.checkpoints.native import load_model
    from ecgforge.classify import Classifier
    from ecgforge.data.store import EcgStore
    from ecgforge.evaluation.privacy import PrivacySettings, audit_privacy
    from ecgforge.evaluation.privacy_report import write_privacy_report

    settings = PrivacySettings(parse_folds(train_folds), parse_folds(test_folds), records, seed)
    real_store, synthetic_store = EcgStore.open(real), EcgStore.open(synthetic)
    _require_device(device)
    require_writable(out)
    judge = Classifier.load(classifier, device=device) if classifier else None
    generator = load_model(locate_model(model)) if model else None
    with progress_bar("Auditing") as bar:
        audit = audit_privacy(
            real_store,
            synthetic_store,
            settings=settings,
            classifier=judge,
            model=generator,
            device=device,
            progress=lambda what, done, total: bar(done, total),
        )
    command = shlex.join(["ecgforge", *sys.argv[1:]])
    written = write_privacy_report(audit, real_store, synthetic_store, out, command=command)
    for view in audit.views:
        found, attack = view.synthetic, view.synthetic.attack.auroc
        typer.echo(
            f"{view.view}: {found.too_near:.2%} of {found.records} synthetic records too near; attack on the samples "
            f"AUROC {attack.estimate:.3f} ({attack.low:.3f} to {attack.high:.3f})"
        )
    if audit.model_attacks:
        attack = audit.model_attacks[-1].relative.auroc
        typer.echo(f"attack on the model: AUROC {attack.estimate:.3f} ({attack.low:.3f} to {attack.high:.3f})")
    for line in audit.notes:
        typer.echo(line)
    typer.echo(f"report: {written[-1]}")


def _require_device(device: str) -> None:
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch's ways to say so
        raise ConfigError(f"cannot compute on the device {device!r}: {str(error).splitlines()[0]}") from error
