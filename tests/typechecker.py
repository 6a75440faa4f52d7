"""Checks vitlib's type hints while the tests run: beartype, with an int accepted as a float."""

from beartype import BeartypeConf, beartype

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
