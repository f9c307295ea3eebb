"""A small neural network on the 1,797 handwritten digits that come with scikit-learn.

    python train_digits.py --lr 0.01 --epochs 20

Alone it trains and keeps its record on this machine; `hostler submit examples/train_digits.task.yaml`
trains it on the fleet. Interrupted at any moment it goes on from its last checkpoint and ends with
the very numbers of an undisturbed run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import hostler
import joblib
import numpy as np
from interruption import EXIT_REQUEUE, Interruption
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a neural network on handwritten digits.")
    parser.add_argument("--lr", type=float, default=0.005, help="learning rate of Adam")
    parser.add_argument("--alpha", type=float, default=1e-4, help="weight decay")
    parser.add_argument("--hidden", type=int, default=64, help="units of the hidden layer")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument(
        "--seed", type=int, default=0, help="of the split, the first weights and the shuffling"
    )
    parser.add_argument(
        "--epoch-seconds", type=float, default=0.0, help="shortest time of an epoch (a pace to watch)"
    )
    parser.add_argument(
        "--resume", default="auto", help="outside the fleet: the id of an interrupted run to go on with"
    )
    return parser.parse_args(argv)


def new_state(args: argparse.Namespace) -> dict[str, Any]:
    model = MLPClassifier(
        hidden_layer_sizes=(args.hidden,),
        learning_rate_init=args.lr,
        alpha=args.alpha,
        random_state=args.seed,
    )
    return {"epoch": 0, "model": model}


def train_epoch(model: MLPClassifier, data: tuple[np.ndarray, ...]) -> dict[str, float]:
    """One pass over the training digits; the optimiser's state stays inside the model between passes."""
    train_x, valid_x, train_y, valid_y = data
    model.partial_fit(train_x, train_y, classes=np.arange(10))
    chances = model.predict_proba(valid_x)
    return {
        "train/loss": float(model.loss_),
        "valid/loss": float(log_loss(valid_y, chances, labels=np.arange(10))),
        "valid/accuracy": float(accuracy_score(valid_y, chances.argmax(axis=1))),
    }


def train(args: argparse.Namespace, interruption: Interruption, folder: Path) -> bool:
    """True when the training is done, False when it was asked to stop; each finished epoch is published by then."""
    found = hostler.restore()
    state = joblib.load(found) if found else new_state(args)
    print(f"starting at epoch {state['epoch'] + 1}" + (f" from {found.name}" if found else ""), flush=True)

    x, y = load_digits(return_X_y=True)
    data = train_test_split(x / 16.0, y, test_size=0.25, random_state=args.seed, stratify=y)
    while state["epoch"] < args.epochs and not interruption.requested:
        began = time.monotonic()
        metrics = train_epoch(state["model"], data)
        state["epoch"] += 1
        hostler.log(metrics, step=state["epoch"])
        joblib.dump(state, folder / "digits.joblib")
        hostler.checkpoint(folder / "digits.joblib", step=state["epoch"])
        print(f"epoch {state['epoch']}/{args.epochs} accuracy {metrics['valid/accuracy']:.4f}", flush=True)
        interruption.wait(args.epoch_seconds - (time.monotonic() - began))
    if state["epoch"] < args.epochs:
        return False
    joblib.dump(state["model"], folder / "model.joblib")
    hostler.log_artifact(
        folder / "model.joblib", name="model", type="model", metadata={"library": "scikit-learn"}
    )
    return True


def main() -> None:
    args = parse()
    interruption = Interruption()
    run = hostler.init(project="digits", config=vars(args), resume=args.resume)
    with run, tempfile.TemporaryDirectory() as folder:
        if not train(args, interruption, Path(folder)):
            print(f"asked to stop; outside the fleet --resume {run.id} goes on", flush=True)
            sys.exit(EXIT_REQUEUE)


if __name__ == "__main__":
    main()
