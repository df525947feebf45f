"""A report on the console."""

from collections.abc import Mapping

from rich.console import Console

from raytransfer.report import Report
from raytransfer.store import Store


def show_tables(console: Console, report: Report) -> None:
    """Print what a report says: its tables and notes.

    Args:
        console: Where to.
        report: The report.
    """
    if report.tables:
        console.print()
    for table in report.tables:
        console.print(table)
    for note in report.notes:
        console.print(note, soft_wrap=True)


def show_places(console: Console, report: Report, store: Store, files: Mapping[str, str]) -> None:
    """Print where the files of a report lie.

    Args:
        console: Where to.
        report: The report.
        store: Where its files are.
        files: The place of each by its name.
    """
    pictures = [place for file, place in files.items() if file.endswith(".png")]
    if pictures:
        console.print("Pictures:" if len(pictures) > 1 else "Picture:", *pictures, soft_wrap=True)
    if "report.html" in files:
        console.print(f"Report: {files['report.html']}", soft_wrap=True)
    for file in report.texts:
        console.print(f"{file}: {files[file]}", soft_wrap=True)
    name, meaning = report.main
    if name:
        console.print(f"{meaning}, in pandas:", soft_wrap=True)
        console.print(how_to_read(store, name, files[f"{name}.parquet"]), soft_wrap=True)


def show_answer(console: Console, report: Report) -> None:
    """Print what came out, in sentences, last: where a reader looks."""
    if report.answer:
        console.print("\nAnswer:")
    for sentence in report.answer:
        console.print(sentence, soft_wrap=True)


def how_to_read(store: Store, variable: str, place: str) -> str:
    """Lines of Python that read a table into pandas."""
    if store.is_local:
        return f"  import pandas as pd\n  {variable} = pd.read_parquet({place!r})"
    # pandas would ask for more packages, pyarrow understands the URI
    return f"  import pyarrow.parquet as pq\n  {variable} = pq.read_table({place!r}).to_pandas()"
