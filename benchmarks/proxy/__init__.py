"""The cost of a request compared with nginx: `make bench`. `rows.py` defines what is measured."""
