"""The sweep's command with a report that draws no pictures: they take seconds, and no one looks at them here."""

from raytransfer.cli import run_script
from raytransfer.report import files, page

if __name__ == "__main__":
    files.png = files.pdf = lambda _: b"a picture"
    page.inline_svg = lambda *_, **__: ('<svg role="img" aria-label="a picture"/>', [])
    run_script("yosinski", __doc__)
