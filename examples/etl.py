"""From CSV to SQLite: rows are read, cleaned by several threads, and written in batches.

    python examples/etl.py [FILE.csv]

Without a file it makes one. Memory does not grow with the file, and a bad row is reported and left out.
"""

from __future__ import annotations

import csv
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from penstock import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = 20_000
BAD = 50


def made(folder: Path) -> Path:
    """A file of sales, one of a hundred rows bad."""
    path = folder / "sales.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "item", "price"])
        for number in range(ROWS):
            writer.writerow([number, f" Item {number % 7} ", "?" if number % 100 == BAD else f"{number % 13}.50"])
    return path


def rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows, one after the other."""
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def cleaned(row: dict[str, str]) -> tuple[int, str, float] | None:
    """A row as the table has it; None for one that is bad."""
    try:
        return int(row["id"]), row["item"].strip().lower(), float(row["price"])
    except ValueError:
        return None


def load(path: Path, database: sqlite3.Connection) -> tuple[int, int]:
    """How many rows were written, and how many were bad."""
    database.execute("CREATE TABLE sales (id INTEGER PRIMARY KEY, item TEXT, price REAL)")
    good = bad = 0
    for batch in Stream(rows(path)).map(cleaned, limit=4).batch(500):
        kept = [row for row in batch if row is not None]
        with database:
            database.executemany("INSERT INTO sales VALUES (?, ?, ?)", kept)
        good += len(kept)
        bad += len(batch) - len(kept)
    return good, bad


def main() -> None:
    """Load a file and sum it up."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else made(Path(folder))
        database = sqlite3.connect(":memory:")
        good, bad = load(path, database)
    total, items = database.execute("SELECT sum(price), count(DISTINCT item) FROM sales").fetchone()
    database.close()
    print(f"{good} rows of {items} items, {total:.2f} in all; {bad} bad rows")


if __name__ == "__main__":
    main()
