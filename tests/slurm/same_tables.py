"""Says whether two work directories hold the same tables, to float tolerance; else fails."""

import pathlib
import sys

import pandas as pd


def main(ours: pathlib.Path, theirs: pathlib.Path) -> None:
    """Compares every table of ``theirs``."""
    for path in sorted((theirs / "results").glob("*.parquet")):
        frames = [pd.read_parquet(folder / "results" / path.name) for folder in (ours, theirs)]
        exact = frames[0].equals(frames[1])
        pd.testing.assert_frame_equal(*frames, rtol=1e-3, atol=1e-4)
        print(f"{path.stem}: {len(frames[0])} rows the same" + (", to the bit" if exact else ""))


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
