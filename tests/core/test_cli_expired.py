"""``ledger-watcher verify`` on a run whose beginning is gone, and its JSON."""

from __future__ import annotations

import json
from pathlib import Path

from ledger_watcher.ledger import RunKey
from tests.core.ledgers import truncate
from tests.core.test_cli_verify import RUN, end_hash, root, run

__all__ = ["root"]


def expire(root: Path, key: RunKey = RUN) -> None:
    """Take the first two segments away, as a lifecycle rule does."""
    for seq in (0, 1):
        (root / key.segment(seq)).unlink()


def test_an_expired_beginning_is_named_and_has_to_be_allowed(root: Path) -> None:
    anchor = end_hash(root)
    expire(root)
    result = run(root)
    assert result.exit_code == 1
    first, second = result.stdout.splitlines()
    assert first.startswith("expired  shop / run-1: 1 segment, ")
    assert second == "  expired: segments 0 to 1 are gone, a checkpoint stands for them; --allow-expired if a lifecycle rule did that"
    result = run(root, "--allow-expired", "--anchor", anchor)
    assert result.exit_code == 0
    assert "  expired: segments 0 to 1 are gone, a checkpoint stands for them\n" in result.stdout
    assert "nothing from segment 2 to there was altered" in result.stdout


def test_expired_is_not_damaged(root: Path) -> None:
    """Allowing the one does not allow the other; nor is a beginning that nothing stands for called expired."""
    expire(root)
    truncate(root / RUN.segment(2))
    assert run(root, "--allow-expired").exit_code == 1
    (checkpoint,) = (root / RUN.prefix / "ckpt").iterdir()
    checkpoint.unlink()
    result = run(root, "--allow-expired")
    assert result.exit_code == 1
    assert "expired: " not in result.stdout


def test_json(root: Path) -> None:
    found = json.loads(run(root, "--json", "--anchor", end_hash(root)).stdout)
    (one,) = found["runs"]
    end = {"seq": 2, "epoch": 1, "sha256": end_hash(root)}
    assert (one["state"], one["segments"], one["checkpoints"], one["expired"], one["problems"]) == ("ok", 3, 1, 0, [])
    assert (one["last"], one["ends"], one["anchored"], one["ended"], one["macs_checked"]) == (end, [end], [end["sha256"]], True, False)
    expire(root)
    result = run(root, "--json")
    (one,) = json.loads(result.stdout)["runs"]
    assert (result.exit_code, one["state"], one["expired"]) == (1, "expired", 2)
    truncate(root / RUN.segment(2))
    result = run(root, "--json")
    (one,) = json.loads(result.stdout)["runs"]
    assert (result.exit_code, one["state"], one["last"]) == (1, "problems", None)
    assert [problem["path"] for problem in one["problems"]] == [f"file://{root / RUN.segment(2)}"]
