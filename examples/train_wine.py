"""Boosted trees on the 178 wines that come with scikit-learn, a few trees a round.

    python train_wine.py --lr 0.1 --depth 2 --rounds 20

Alone it trains and keeps its record on this machine; `hostler submit examples/train_wine.task.yaml`
trains it on the fleet. Interrupted at any moment it goes on from its last checkpoint and grows
the very trees of an undisturbed run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import hostler
import joblib
import numpy as np
from interruption import EXIT_REQUEUE, Interruption
from sklearn.datasets import load_wine
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train boosted trees on the chemistry of wines.")
    parser.add_argument("--lr", type=float, default=0.1, help="how much each tree counts")
    parser.add_argument("--depth", type=int, default=2, help="levels of a tree")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--trees-per-round", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the split and the trees")
    parser.add_argument(
        "--round-seconds", type=float, default=0.0, help="shortest time of a round (a pace to watch)"
    )
    parser.add_argument(
        "--resume", default="auto", help="outside the fleet: the id of an interrupted run to go on with"
    )
    return parser.parse_args(argv)


def new_model(args: argparse.Namespace) -> GradientBoostingClassifier:
    return GradientBoostingClassifier(
        n_estimators=0, warm_start=True, learning_rate=args.lr, max_depth=args.depth, random_state=args.seed
    )


def grow(model: GradientBoostingClassifier, trees: int, data: tuple[np.ndarray, ...]) -> dict[str, float]:
    """Add `trees` trees to those that are there already."""
    train_x, valid_x, train_y, valid_y = data
    model.set_params(n_estimators=model.n_estimators + trees)
    model.fit(train_x, train_y)
    chances = model.predict_proba(valid_x)
    return {
        "train/loss": float(model.train_score_[-1]),
        "valid/loss": float(log_loss(valid_y, chances, labels=model.classes_)),
        "valid/accuracy": float(accuracy_score(valid_y, chances.argmax(axis=1))),
        "trees": float(model.n_estimators),
    }


def train(args: argparse.Namespace, interruption: Interruption, folder: Path) -> bool:
    """True when the training is done, False when it was asked to stop; each finished round is published by then."""
    found = hostler.restore()
    model = joblib.load(found) if found else new_model(args)
    done = model.n_estimators // args.trees_per_round
    print(f"starting at round {done + 1}" + (f" from {found.name}" if found else ""), flush=True)

    x, y = load_wine(return_X_y=True)
    data = train_test_split(x, y, test_size=0.3, random_state=args.seed, stratify=y)
    while done < args.rounds and not interruption.requested:
        began = time.monotonic()
        metrics = grow(model, args.trees_per_round, data)
        done += 1
        hostler.log(metrics, step=done)
        joblib.dump(model, folder / "wine.joblib")
        hostler.checkpoint(folder / "wine.joblib", step=done)
        print(f"round {done}/{args.rounds} accuracy {metrics['valid/accuracy']:.4f}", flush=True)
        interruption.wait(args.round_seconds - (time.monotonic() - began))
    if done < args.rounds:
        return False
    joblib.dump(model, folder / "model.joblib")
    hostler.log_artifact(
        folder / "model.joblib", name="model", type="model", metadata={"library": "scikit-learn"}
    )
    return True


def main() -> None:
    args = parse()
    interruption = Interruption()
    run = hostler.init(project="wine", config=vars(args), resume=args.resume)
    with run, tempfile.TemporaryDirectory() as folder:
        if not train(args, interruption, Path(folder)):
            print(f"asked to stop; outside the fleet --resume {run.id} goes on", flush=True)
            sys.exit(EXIT_REQUEUE)


if __name__ == "__main__":
    main()
