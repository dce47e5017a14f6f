"""Date all files of a wheel alike, so that the same source gives the same bytes; all else is in setup.cfg."""

import os

from setuptools import setup

os.environ.setdefault("SOURCE_DATE_EPOCH", "1577836800")  # 2020-01-01, as there are no dates before 1980 in zip files

setup()
